"""Many runs: sweeps, their jobs on this machine or a cluster, Optuna studies, cross-validation."""

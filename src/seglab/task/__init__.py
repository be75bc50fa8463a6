"""LightningModules: what a training, validation and test step does."""

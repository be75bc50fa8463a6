"""The launcher that hands the jobs of `-m` in to Slurm: one cluster job for each run."""

import os
from typing import TYPE_CHECKING, Any

from hydra_plugins.seglab.process_launcher import ProcessLauncher

if TYPE_CHECKING:
    from seglab.run.sweeps.sweep import Sweep


class SubmititLauncher(ProcessLauncher):
    """Does what the process launcher does, with jobs that run on a cluster instead of on this machine.

    The process of a job here submits it with submitit and waits for it. Results are read from result.json, so the
    folder of the sweep must be on a disk that all machines share.

    Args:
        parallel: jobs in the queue at once.
        retries: how often a failed job is started again.
        grace_s: seconds that jobs have to end themselves after Ctrl-C or SIGTERM.
        settings: of the cluster, see seglab.run.sweeps.cluster.ClusterSettings.
    """

    def __init__(self, *, parallel: int, retries: int, grace_s: float, **settings: Any) -> None:
        super().__init__(parallel=parallel, retries=retries, grace_s=grace_s)
        self.settings = settings

    def _open(self) -> "Sweep":
        from seglab.extras import require
        from seglab.run.sweeps.cluster import Cluster, settings_of

        require("submitit", "slurm", "hydra/launcher=submitit")
        cluster = Cluster(settings_of(self.settings), os.environ)
        sweep = super()._open()
        sweep.shares = cluster
        return sweep

"""The sweeper that lets Optuna choose: trials of a study as jobs of the process launcher."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hydra_plugins.seglab.process_launcher import ProcessLauncher
    from seglab.run.sweeps.search_space import SearchSpace
    from seglab.run.sweeps.study import SweepStudy
    from seglab.run.sweeps.study_settings import StudySettings
    from seglab.run.sweeps.sweep import Sweep
    from seglab.run.sweeps.sweep_record import Job


class OptunaSweeper(Sweeper):
    """Searches with Optuna; the folder of a job has the number of its trial.

    A sweep that was stopped goes on in its folder: unfinished trials from their last checkpoints, then new ones until
    there are `n_trials`. A trial that fails is noted, the others go on, and the sweep ends with exit code 1.

    Args:
        n_trials: in all, of all processes that work on the study.
        sampler: tpe, cmaes, random or grid.
        seed: of the sampler, None draws anew each time.
        n_startup_trials: drawn at random before tpe or cmaes learns from them.
        objective: key of result.json, or several.
        direction: maximize or minimize, one for each objective.
        storage: of the study, None for a journal in the sweep's folder.
        study_name: in the storage, None for the name of the sweep's folder.
        pruner: none, median or hyperband.
        pruner_startup_trials: finished trials before median ends any.
        pruner_warmup_epochs: epochs before a trial may be ended.
        pruner_reduction: hyperband goes on with one of so many trials.
        params: what to search, in Hydra's syntax; what is typed wins.
    """

    def __init__(
        self,
        *,
        n_trials: int,
        sampler: str,
        seed: int | None,
        n_startup_trials: int,
        objective: str | Sequence[str],
        direction: str | Sequence[str],
        storage: str | None,
        study_name: str | None,
        pruner: str,
        pruner_startup_trials: int,
        pruner_warmup_epochs: int,
        pruner_reduction: int,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.objective, self.direction, self.params = objective, direction, params or {}
        self.given: dict[str, Any] = {
            "n_trials": n_trials,
            "sampler": sampler,
            "seed": seed,
            "n_startup_trials": n_startup_trials,
            "storage": storage,
            "study_name": study_name,
            "pruner": pruner,
            "pruner_startup_trials": pruner_startup_trials,
            "pruner_warmup_epochs": pruner_warmup_epochs,
            "pruner_reduction": pruner_reduction,
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra composed, and the launcher."""
        self.master, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the study to its end.

        Args:
            arguments: overrides as typed.

        Raises:
            SystemExit: code 1 when a trial failed or the user can mend something, 130 or 143 after a signal.
        """
        from seglab.extras import require
        from seglab.run.cli import Refused, user_errors

        with user_errors():
            for package in ("optuna", "cmaes", "matplotlib"):
                require(package, "sweep", "hydra/sweeper=optuna")
            from seglab.run.sweeps.search_space import parse_space
            from seglab.run.sweeps.study_report import report

            space = parse_space(self.params, arguments, self.master, self.loader)
            settings = self._settings()
            self._check(settings, space)
            if not report(*self._run(settings, space)):
                raise Refused(1)

    def _settings(self) -> "StudySettings":
        from seglab.run.sweeps.study_settings import StudySettings, names_of

        return StudySettings(**self.given, objective=names_of(self.objective), directions=names_of(self.direction))

    def _check(self, settings: "StudySettings", space: "SearchSpace") -> None:
        """Compose every choice once, so that a wrong key or name ends the sweep before a study is begun."""
        from seglab.run.sweeps.study_settings import check_direction

        first = space.first()
        composed = self._composed([*space.overrides(first), "study.trial=0"])
        check_direction(settings, OmegaConf.select(composed, "callbacks.checkpoint.mode"))
        for key, choices in space.choices().items():
            for choice in choices[1:]:
                self._composed(space.overrides({**first, key: choice}))

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        return self.loader.load_sweep_config(self.master, list(overrides))

    def _run(self, settings: "StudySettings", space: "SearchSpace") -> "tuple[SweepStudy, Sweep]":
        """Run trials until the study has all."""
        from seglab.run.sweeps.study import SweepStudy

        launcher = self._launcher()
        launcher.launch([], 0)  # makes the folder of the sweep, or takes it over
        if (sweep := launcher.sweep) is None:
            raise HydraException("the launcher has opened no folder")
        sweep.record.told_apart_by = list(space.distributions)
        try:
            study = SweepStudy(settings, space, sweep.record.folder)
            study.check_folder(sweep.record.jobs.values())
            while batch := study.next_batch(launcher.parallel):
                jobs = {trial.number: self._job(study, sweep, trial) for trial in batch}
                sound = [job for job in jobs.values() if self._composes(job)]
                launcher.launch([job.overrides for job in sound], min(jobs))
                for number, job in jobs.items():
                    study.tell(number, study.outcome(job, sweep.record.place(job)))
        finally:
            sweep.close()
        return study, sweep

    def _launcher(self) -> "ProcessLauncher":
        from seglab.errors import ConfigError

        target = str(self.master.hydra.launcher._target_)
        if not target.endswith(".ProcessLauncher"):  # Hydra loads a plugin a second time, so its class is another one
            raise ConfigError(
                "the trials of a study are processes of their own",
                given=f"hydra.launcher._target_={target}",
                allowed="hydra/launcher=process",
                fix="leave hydra/launcher out",
            )
        return cast("ProcessLauncher", self.launcher)

    def _job(self, study: "SweepStudy", sweep: "Sweep", trial: "FrozenTrial") -> "Job":
        """The job with the number of a trial; that of a trial which goes on is known already."""
        overrides, known = study.overrides(trial), sweep.record.jobs.get(trial.number)
        if known is None:
            return sweep.record.add(trial.number, sweep.program.name, overrides, folder=str(trial.number))
        known.overrides = overrides  # the record keeps them without secrets
        return known

    def _composes(self, job: "Job") -> bool:
        """Whether values go together that do so one by one; the job fails if not."""
        try:
            self._composed(job.overrides)
        except HydraException as error:
            job.status, job.error = "failed", str(error).partition("\n")[0]
            return False
        return True

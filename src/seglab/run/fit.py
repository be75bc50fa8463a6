"""fit: trains, tests the best checkpoint, and leaves a complete run folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from omegaconf import DictConfig, OmegaConf

from seglab.callbacks.best import KeptScores
from seglab.callbacks.pruning import was_pruned
from seglab.callbacks.stop import StopOnSignal, Stopped
from seglab.errors import ConfigError
from seglab.run.build import Config, Run, build
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_weights
from seglab.run.checkpoints.plain import read_checkpoint
from seglab.run.checkpoints.resume import check_same_data, resume_point, resumed_config
from seglab.run.engine import Engine
from seglab.run.first import first_network
from seglab.run.folder import occupied
from seglab.run.forecast import check
from seglab.run.ids import is_main_process, run_id, run_name
from seglab.run.make import make
from seglab.run.record import claim, config_hash, note_resume, write_json, write_rows, write_run
from seglab.run.reports.data_report import doubts
from seglab.run.reports.screen import show_run
from seglab.run.secrets import scrub
from seglab.run.spawn import spawned
from seglab.run.tracking.loggers import open_loggers, tell, unfailing

log = logging.getLogger("seglab")


def fit(cfg: DictConfig) -> dict[str, float]:
    """Train as configured and test the kept checkpoint.

    Args:
        cfg: composed by Hydra from conf/train.yaml.

    Returns:
        Metrics of the test, and best/<metric> of the kept epoch.

    Raises:
        SeglabError: anything the user can mend, before the training starts.
    """
    if (scores := spawned(cfg)) is not None:
        return scores
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]  # keys are strings
    with occupied(run_dir, run_id()) if is_main_process() else nullcontext():
        start = None
        if config["resume"]:
            config, start = resumed_config(run_dir, list(hydra.overrides.task), cfg), resume_point(run_dir)
        elif is_main_process():
            claim(run_dir)
        check_mode(hydra, config)
        quiet()
        if config.get("check"):
            check(config, run_dir)
            return {}
        run = build(config, run_dir, first_network(config, run_dir, train))
        if start:
            check_same_data(run_dir, facts(run))
        return train(run, run_dir, start)


def train(run: Run, run_dir: Path, start: Path | None) -> dict[str, float]:
    """Train what was built, test the kept checkpoint, and write the results.

    Args:
        run: the objects of the run.
        run_dir: folder of the run.
        start: checkpoint to go on from, None for a new run.

    Returns:
        Metrics of the test, and best/<metric> of the kept epoch.
    """
    with listening(run), tracked(run, run_dir):
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=start)
        is_unscored = is_time_up(run, run_dir) and not (run_dir / "checkpoints" / "best.ckpt").is_file()
        scores = kept_scores(run)
        pruned = {"pruned": True} if was_pruned(run.trainer) else {}
        if run.config["test"] and not pruned and not is_unscored:
            scores |= test_best(run, run_dir)
        if run.trainer.is_global_zero:
            write_json(run_dir / "result.json", {"status": "finished", **pruned, "value": _value(run), **scores})
            tell(run.trainer.loggers, "log_files", run_dir, run_dir)
            show_run(run, run_dir, scores)
    return scores


def check_mode(hydra: HydraConf, config: Config) -> None:
    """Refuse several devices under a launcher whose jobs are no fresh processes: ranks would sweep and train apart.

    Args:
        hydra: Hydra's own part of the configuration.
        config: of the run.

    Raises:
        ConfigError: names the launcher that starts a process for each job.
    """
    launcher = str(hydra.launcher["_target_"]).rpartition(".")[2]
    is_spawned = launcher == "BasicLauncher" and config["trainer"].get("strategy") == "ddp_spawn"
    if hydra.mode != RunMode.MULTIRUN or launcher in ("ProcessLauncher", "SubmititLauncher") or is_spawned:
        return
    engine: Engine = make(config["trainer"], "trainer")
    if engine.world_size > 1:
        raise ConfigError(
            f"jobs of {launcher} cannot train on several devices",
            given=f"hydra.launcher._target_={hydra.launcher['_target_']} with trainer.devices={engine.devices}, "
            f"here {engine.world_size} processes",
            allowed="trainer.devices=1, or hydra/launcher=process or submitit, with a process or a cluster job for "
            "each run; hydra/launcher=basic with trainer.strategy=ddp_spawn",
            fix="set hydra/launcher=process, or leave hydra/launcher out",
        )


def test_best(run: Run, run_dir: Path) -> dict[str, float]:
    """Score the test cases with the kept checkpoint; writes metrics.json and cases.csv."""
    file = find_checkpoint(run_dir)
    load_weights(run.task, read_checkpoint(file), file)
    if not run.data.test_records:
        return {}
    run.trainer.test(run.task, run.data, verbose=False)
    scores = dict(run.task.test_scores)
    if run.trainer.is_global_zero:
        write_json(run_dir / "metrics.json", scores)
        write_rows(run_dir / "cases.csv", run.task.case_rows)
        shown = (run.task.case_rows, run.task.counts["test"], run.data.spec, run.trainer.global_step)
        tell(run.trainer.loggers, "log_test", *shown)
    return scores


def is_time_up(run: Run, run_dir: Path) -> bool:
    """Whether trainer.max_time has ended the training before its last epoch; says so, and how to go on."""
    trainer, limit = run.trainer, run.config["trainer"].get("max_time")
    left = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    most = trainer.max_epochs or -1  # -1: max_steps alone is the end
    is_up = any(seconds is not None and seconds <= 0 for seconds in left) and not 0 < most <= trainer.current_epoch
    if is_up:
        way = f"go on with resume={run_dir} and" if trainer.global_step else "start again with"
        log.warning(
            f"trainer.max_time={limit} is up after step {trainer.global_step}, in epoch {trainer.current_epoch} of "
            f"{most}; {way} a larger trainer.max_time, which counts all starts"
        )
    return is_up


def kept_scores(run: Run) -> dict[str, float]:
    """best/<metric> of the epoch whose checkpoint is kept."""
    keepers = [callback for callback in run.trainer.callbacks if isinstance(callback, KeptScores)]  # type: ignore[attr-defined]
    return dict(keepers[0].scores)


@contextmanager
def tracked(run: Run, run_dir: Path) -> Iterator[None]:
    """Open the loggers and write run.json; close W&B with the exit code, and note in result.json what ended the run."""
    from seglab.run.tracking.wandb_run import close_wandb

    exit_code: int = 1
    cause: BaseException | None = None
    try:
        begin(run, run_dir)
        run.trainer.loggers = open_loggers(run.config, run_dir)
        tell(run.trainer.loggers, "log_start", run.task.net)
        yield
        exit_code = 0
    except Stopped as stop:
        exit_code, cause = 128 + stop.number, stop
        note_end(run_dir, {"status": "stopped", "signal": stop.name, "step": run.trainer.global_step})
        raise
    except BaseException as error:
        cause = error
        note_end(run_dir, {"status": "failed", "error": scrub(f"{type(error).__name__}: {error}")})
        raise
    finally:
        unfailing(close_wandb, "W&B", [])(exit_code, cause)


def listening(run: Run) -> AbstractContextManager[None]:
    """Handle signals while a run goes on, whatever it is at."""
    (callback,) = (callback for callback in run.trainer.callbacks if isinstance(callback, StopOnSignal))  # type: ignore[attr-defined]
    return callback.listening()


def begin(run: Run, run_dir: Path) -> None:
    """Write run.json and split.json, or note in run.json that the run is resumed; tell of doubts about the data."""
    if not is_main_process():
        return
    if (line := doubts(run.data)) is not None:
        log.warning(line)
    if run.config["resume"]:
        note_resume(run_dir, run.config)
    else:
        write_run(run_dir, run.config, {"run_id": run_name(run_dir), **facts(run)})
        write_json(run_dir / "split.json", run.data.splits)


def note_end(run_dir: Path, content: dict[str, Any]) -> None:
    """Write result.json of a run that did not finish; a full disk must not hide why."""
    if is_main_process():
        try:
            write_json(run_dir / "result.json", content)
        except OSError as error:
            log.warning(f"result.json cannot be written: {error}")


def facts(run: Run) -> dict[str, Any]:
    """What run.json says beside the configuration."""
    return {
        "spec": run.data.spec.to_dict(),
        "data_hash": run.data.store.folder.name,
        "split_hash": config_hash(run.data.splits),
        "n_cases": {split: len(records) for split, records in run.data.records.items()},
        "n_parameters": sum(p.numel() for p in run.task.net.parameters()),
        "precision": run.trainer.precision,
        "world_size": run.trainer.world_size,
    }


def quiet() -> None:
    """Hide messages that our own samplers, loggers and metrics make pointless, and Lightning's chatter."""
    chatter = ("sync_dist=True", "does not have many workers", "LeafSpec", "logging interval", "is not empty")
    for text in (*chatter, "all_gather is deprecated"):
        warnings.filterwarnings("ignore", f".*{text}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root logger shows them once
        logging.getLogger(name).setLevel(logging.WARNING)
    log.setLevel(logging.INFO if is_main_process() else logging.ERROR)


def _value(run: Run) -> float | None:
    checkpoint = run.trainer.checkpoint_callback
    score = checkpoint.best_model_score if isinstance(checkpoint, ModelCheckpoint) else None
    return float(score) if score is not None else None

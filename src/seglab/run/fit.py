"""fit: trains, tests the best checkpoint, and leaves a complete run folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig, OmegaConf

from seglab.callbacks.best import KeptScores
from seglab.errors import ConfigError
from seglab.run.build import Config, Run, build
from seglab.run.checkpoint import find_checkpoint, load_weights, read_checkpoint
from seglab.run.engine import Engine
from seglab.run.first import first_network
from seglab.run.ids import is_main_process, run_name
from seglab.run.make import make
from seglab.run.record import claim, note_resume, read_run, write_json, write_rows, write_run
from seglab.run.resume import resume_point, resumed_config
from seglab.run.screen import show_run

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
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]  # keys are strings
    start = None
    if config["resume"]:
        config, start = resumed_config(run_dir, list(hydra.overrides.task), cfg), resume_point(run_dir)
    elif is_main_process():
        claim(run_dir)
    check_mode(hydra.mode, config)
    quiet()
    return train(build(config, run_dir, first_network(config, run_dir, train)), run_dir, start)


def train(run: Run, run_dir: Path, start: Path | None) -> dict[str, float]:
    """Train what was built, test the kept checkpoint, and write the results.

    Args:
        run: the objects of the run.
        run_dir: folder of the run.
        start: checkpoint to go on from, None for a new run.

    Returns:
        Metrics of the test, and best/<metric> of the kept epoch.
    """
    with tracked(run, run_dir):
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=start)
        scores = kept_scores(run)
        if run.config["test"]:
            scores |= test_best(run, run_dir)
        if run.trainer.is_global_zero:
            write_json(run_dir / "result.json", {"status": "finished", "value": _value(run), **scores})
            show_run(run, run_dir, scores)
    return scores


def check_mode(mode: RunMode | None, config: Config) -> None:
    """Refuse a sweep whose jobs start processes: ranks would sweep on their own and train apart in silence.

    Raises:
        ConfigError: names what works.
    """
    engine: Engine = make(config["trainer"], "trainer")
    if mode == RunMode.MULTIRUN and engine.world_size > 1:
        raise ConfigError(
            "a sweep in one process cannot train on several devices",
            given=f"-m with trainer.devices={engine.devices}, here {engine.world_size} processes",
            allowed="-m with trainer.devices=1, or one job with several devices",
            fix="start the jobs one after another without -m",
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
    return scores


def kept_scores(run: Run) -> dict[str, float]:
    """best/<metric> of the epoch whose checkpoint is kept."""
    keepers = [callback for callback in run.trainer.callbacks if isinstance(callback, KeptScores)]  # type: ignore[attr-defined]
    return dict(keepers[0].scores)


@contextmanager
def tracked(run: Run, run_dir: Path) -> Iterator[None]:
    """Open the loggers and write run.json; close W&B with exit code 0 or 1, a failure also in result.json."""
    from seglab.run.wandb_run import close_wandb

    exit_code = 1
    try:
        run.trainer.loggers = open_loggers(run.config, run_dir)
        if is_main_process() and run.config["resume"]:
            note_resume(run_dir, run.config)
        elif is_main_process():
            write_run(run_dir, run.config, {"run_id": run_name(run_dir), **facts(run)})
            write_json(run_dir / "split.json", run.data.splits)
        yield
        exit_code = 0
    except BaseException as error:
        if is_main_process():
            write_json(run_dir / "result.json", {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        close_wandb(exit_code)


def open_loggers(config: Config, run_dir: Path) -> list[Logger]:
    """CSV always; W&B, TensorBoard or others as configured, on the main process only."""
    loggers: list[Logger] = [CSVLogger(run_dir, name="csv")]
    if is_main_process():
        for name, node in (config.get("logger") or {}).items():
            loggers.append(_open_logger(name, node, config, run_dir))
    return loggers


def facts(run: Run) -> dict[str, Any]:
    """What run.json says beside the configuration."""
    return {
        "spec": run.data.spec.to_dict(),
        "data_hash": run.data.store.folder.name,
        "n_cases": {split: len(records) for split, records in run.data.records.items()},
        "n_parameters": sum(p.numel() for p in run.task.net.parameters()),
        "precision": run.trainer.precision,
        "world_size": run.trainer.world_size,
    }


def quiet() -> None:
    """Hide messages that our own samplers, loggers and metrics make pointless, and Lightning's chatter."""
    for text in ("sync_dist=True", "does not have many workers", "LeafSpec", "logging interval", "is not empty"):
        warnings.filterwarnings("ignore", f".*{text}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's root logger shows them once
        logging.getLogger(name).setLevel(logging.WARNING)
    log.setLevel(logging.INFO if is_main_process() else logging.ERROR)


def _open_logger(name: str, node: Config, config: Config, run_dir: Path) -> Logger:
    if name == "wandb":
        from seglab.run.wandb_run import open_wandb

        settings = make(node, "logger.wandb")
        known = read_run(run_dir)["run_id"] if config["resume"] else run_name(run_dir)
        return open_wandb(settings, run_dir, known, config)
    logger: Logger = make({"save_dir": str(run_dir), **node}, f"logger.{name}")
    return logger


def _value(run: Run) -> float | None:
    checkpoint = run.trainer.checkpoint_callback
    score = checkpoint.best_model_score if isinstance(checkpoint, ModelCheckpoint) else None
    return float(score) if score is not None else None

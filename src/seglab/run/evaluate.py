"""evaluate: scores a trained run on whole cases, of its own data or of another folder."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seglab.callbacks.images import PredictionImages
from seglab.data.module import SegmentationData
from seglab.errors import ConfigError, DataError
from seglab.files import check_writable
from seglab.run.build import Config, build_data, data_facts, watchers
from seglab.run.engine import engine_for
from seglab.run.ensemble import load_members, members_of
from seglab.run.fit import quiet
from seglab.run.record import read_run, write_json, write_rows
from seglab.run.screen import score_table

SPLITS = ("train", "val", "test", "all")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Score a run; writes metrics.json, cases.csv and a picture.

    Args:
        cfg: composed by Hydra from conf/evaluate.yaml.

    Returns:
        The same names and, on the same cases, the same numbers as the test after training.

    Raises:
        SeglabError: no such run, a broken checkpoint, or data that does not fit.
    """
    quiet()
    run_dir = Path(cfg.run)
    members = members_of(run_dir)
    record = read_run(members[0])
    config: Config = record["config"]
    split = check_split(cfg.split, other_root=cfg.data.root is not None and cfg.data.split_file is None)
    task = load_members(members, cfg.checkpoint)
    data = build_data(moved(config, cfg, members[0])).load(spec=task.spec, test_split=split)
    engine = engine_for(OmegaConf.to_container(cfg.trainer), record["precision"])  # type: ignore[arg-type]  # a dict
    check_cases(data, split, engine.world_size)
    name = split if cfg.data.root is None else f"{split}-{Path(cfg.data.root).resolve().name}"
    output = Path(cfg.output) if cfg.output else run_dir / "evaluate" / name
    check_writable(output, "output")
    callbacks = [*watchers(engine, output, data_facts(data)), PredictionImages(str(output))]
    trainer = engine.trainer(callbacks=callbacks, loggers=[], run_dir=output)
    trainer.test(task, data, verbose=False)
    scores = dict(task.test_scores)
    if trainer.is_global_zero:
        write_json(output / "metrics.json", scores)
        write_rows(output / "cases.csv", task.case_rows)
        n = len(task.case_rows)
        Console().print(score_table(scores, task.spec, f"{n} cases of {split}: pooled over all pixels, and per case"))
        Console().print(f"written to  {output}", highlight=False, soft_wrap=True)
    return scores


def moved(config: Config, cfg: DictConfig, run_dir: Path) -> Config:
    """The run's configuration with the data of this evaluation: its own split file, or another folder."""
    data = dict(config["data"], num_workers=cfg.data.num_workers)
    data["cache_dir"] = cfg.paths.cache_dir or data["cache_dir"]
    data["split_file"] = cfg.data.split_file or (None if cfg.data.root else str(run_dir / "split.json"))
    data["root"] = cfg.data.root or data["root"]
    return {**config, "data": data}


def check_cases(data: SegmentationData, split: str, world_size: int) -> None:
    """Refuse a split without cases, or with fewer than processes.

    Raises:
        DataError: says how many there are.
    """
    if len(data.test_records) < world_size:
        raise DataError(
            f"the split {split} has too few cases",
            given=f"{len(data.test_records)} case(s) for {world_size} process(es)",
            allowed="at least one case for each process",
            fix="choose another split=..., or trainer.devices=1",
        )


def check_split(split: str, *, other_root: bool) -> str:
    """The split to score; another folder has none of its own, so all of it is scored.

    Raises:
        ConfigError: an unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(
            "there is no such split", given=f"split={split}", allowed=", ".join(SPLITS), fix="set split=test"
        )
    return "all" if other_root else split

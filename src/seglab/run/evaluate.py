"""evaluate: scores whole cases of a trained run, of an ensemble, or of label files that any program has made."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from seglab.callbacks.candidates import Candidates
from seglab.callbacks.case_measures import SLICE, CaseMeasures, CaseScorer
from seglab.callbacks.images import PredictionImages
from seglab.callbacks.reliability import COLUMN, Reliability
from seglab.data.module import SegmentationData
from seglab.errors import ConfigError, DataError
from seglab.files import check_writable
from seglab.inference.postprocess import Postprocess
from seglab.metrics.calibration import Calibration
from seglab.metrics.families import CaseMetrics
from seglab.run.build import Config, build_data, data_facts, watchers
from seglab.run.choose import choose_steps, choose_threshold, described, keep, stored_postprocess
from seglab.run.engine import Engine, engine_for
from seglab.run.ensemble import load_members, members_of, run_folder
from seglab.run.evaluate_files import evaluate_files
from seglab.run.evaluation import Evaluation, case_metrics, show
from seglab.run.fit import quiet
from seglab.run.record import read_run
from seglab.run.reports.page import write_evaluation
from seglab.run.tracking.loggers import tell
from seglab.task.segmentation import SegmentationTask

SPLITS = ("train", "val", "test", "all")
POSTPROCESS = ("stored", "auto", "none")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Score a run, an ensemble or a folder of label files; writes metrics.json, cases.csv and report.html.

    Args:
        cfg: composed by Hydra from conf/evaluate.yaml.

    Returns:
        The content of metrics.json. For a run it has the same names and, on the same cases and without
        postprocessing, the same numbers as the test after training, and those of more metrics.

    Raises:
        SeglabError: no such run, a broken checkpoint, or data that does not fit.
    """
    quiet()
    if (cfg.run is None) == (cfg.predictions is None):
        raise ConfigError(
            "one thing is scored at a time",
            given=f"run={cfg.run}, predictions={cfg.predictions}",
            allowed="run=<run or ensemble>, or predictions=<folder> with truth=<folder>",
            fix="type run=runs/<run>",
        )
    return evaluate_run(cfg) if cfg.predictions is None else evaluate_files(cfg)


@dataclass(frozen=True)
class Job:
    """What scoring the cases of a run takes.

    Args:
        task: with its weights.
        data: of the cases that are scored.
        engine: where it runs.
        output: folder.
        run_dir: of the run or ensemble.
        loggers: that get scores and pictures.
    """

    task: SegmentationTask
    data: SegmentationData
    engine: Engine
    output: Path
    run_dir: Path
    loggers: Sequence[Logger] = ()

    def rows(self, callbacks: Sequence[Callback]) -> tuple[list[dict[str, Any]], bool]:
        """Score the cases; their rows, and whether this process writes."""
        watching = watchers(self.engine, self.output, data_facts(self.data))
        trainer = self.engine.trainer(
            callbacks=[*watching, *callbacks], loggers=list(self.loggers), run_dir=self.output
        )
        trainer.test(self.task, self.data, verbose=False)
        return self.task.case_rows, trainer.is_global_zero


def evaluate_run(cfg: DictConfig) -> dict[str, float]:
    """Score a run or an ensemble; raises as `evaluate` does."""
    run_dir = run_folder(cfg.run)
    members = members_of(run_dir)
    record = read_run(members[0])
    split = check_split(cfg.split, other_root=cfg.data.root is not None and cfg.data.split_file is None)
    check_postprocess(cfg.postprocess, members)
    task = load_members(members, cfg.checkpoint)
    config = moved(record["config"], cfg, members[0])
    metrics = case_metrics(cfg.metrics, cfg.tolerance, task.spec)
    data = build_data(config).load(spec=task.spec, test_split=split)
    engine = engine_for(OmegaConf.to_container(cfg.trainer), record["precision"])  # type: ignore[arg-type]  # a dict
    check_cases(data, split, engine.world_size)
    name = split if cfg.data.root is None else f"{split}-{Path(cfg.data.root).resolve().name}"
    output = Path(cfg.output) if cfg.output else run_dir / "evaluate" / name
    check_writable(output, "output")
    if cfg.postprocess == "auto":
        own = moved(record["config"], OmegaConf.merge(cfg, {"data": {"root": None, "split_file": None}}), members[0])  # type: ignore[arg-type]  # still a dict
        choose(Job(task, build_data(own).load(spec=task.spec, test_split="val"), engine, output, run_dir))
    task.postprocess = None if cfg.postprocess == "none" else stored_postprocess(run_dir)
    facts = {
        "run": str(run_dir) if len(members) == 1 else f"{run_dir}, {len(members)} runs together",
        "checkpoint": cfg.checkpoint,
        "cases": f"{len(data.test_records)} of {split} in {data.root}",
        "postprocessing": described(task.postprocess, task.spec),
    }
    with board(run_dir, record, output) if cfg.wandb else nullcontext([]) as loggers:
        return score(Job(task, data, engine, output, run_dir, loggers), metrics, facts, list(cfg.subgroups))


def board(run_dir: Path, record: Config, output: Path) -> AbstractContextManager[list[Logger]]:
    """The W&B run of an evaluation; imported where it is asked for, as W&B takes a second."""
    from seglab.run.tracking.evaluation_board import evaluation_board

    return evaluation_board(run_dir, record, output)


def score(job: Job, metrics: CaseMetrics, facts: dict[str, str], columns: list[str]) -> dict[str, float]:
    """Score the cases of a job and write what was found.

    Args:
        job: task, data, engine, output.
        metrics: families of metrics.
        facts: shown at the top of the report.
        columns: that cases are shared out by.
    """
    scorer = CaseScorer(metrics, job.task.spec, job.output / "cases")
    known = {record.id: record.metadata for record in job.data.test_records}
    reliability = [Reliability()] if "calibration" in metrics.families else []
    rows, is_writer = job.rows([PredictionImages(str(job.output)), *reliability, CaseMeasures(scorer, known)])
    sums = [row.pop(COLUMN) for row in rows if COLUMN in row]
    slices = {row["case"]: row.pop(SLICE) for row in rows}
    found = Evaluation(
        title=f"{job.task.spec.name}: {Path(facts['run']).name}",
        facts=facts,
        spec=job.task.spec,
        rows=rows,
        pooled=pooled_of(job.task.test_scores),
        counts=job.task.counts["test"],
        slices={case: z for case, z in slices.items() if z is not None},
        calibration=sum(sums, Calibration()) if sums else None,
        columns=columns,
    )
    if not is_writer:
        return dict(job.task.test_scores)
    scores = write_evaluation(found, job.output)
    shown = (rows, found.counts, found.spec, 0)
    for call, arguments in (("log_metrics", (scores,)), ("log_test", shown), ("log_files", (job.output, job.run_dir))):
        tell(job.loggers, call, *arguments)
    show(found, scores, job.output)
    return scores


def choose(job: Job) -> None:
    """Choose the postprocessing of a run on its validation cases and keep it in its folder."""
    check_cases(job.data, "val", job.engine.world_size)
    spec = job.task.spec
    rows, is_writer = job.rows([Candidates(spec)])
    threshold = choose_threshold(rows)
    if threshold is not None:
        job.task.postprocess = Postprocess(threshold)
        rows, is_writer = job.rows([Candidates(spec)])
    if is_writer:
        keep(job.run_dir, Postprocess(threshold, choose_steps(rows)), rows, spec)


def pooled_of(scores: dict[str, float]) -> dict[str, float]:
    """Scores over all pixels, without split."""
    plain = {name.removeprefix("test/"): value for name, value in scores.items()}
    return {name: value for name, value in plain.items() if not name.startswith("case_")}


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


def check_postprocess(choice: str, members: Sequence[Path]) -> None:
    """Refuse unknown choices, and a choice on validation cases that an ensemble does not have.

    Raises:
        ConfigError: names the choices.
    """
    if choice not in POSTPROCESS:
        raise ConfigError(
            "there is no such choice of postprocessing",
            given=f"postprocess={choice}",
            allowed=", ".join(POSTPROCESS),
            fix="leave postprocess out to apply what was chosen for the run",
        )
    if choice == "auto" and len(members) > 1:
        raise ConfigError(
            "the postprocessing of an ensemble cannot be chosen",
            given=f"{len(members)} runs, each trained on validation cases of others",
            allowed="postprocess=auto for a single run",
            fix="choose it on each run, or set postprocess=none",
        )

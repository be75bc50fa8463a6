"""The benchmark of sweeps sees where the plain way goes wrong in silence, and that ours does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(700)]


def test_after_a_job_on_one_process_the_plain_way_has_lost_the_second_one_and_ours_has_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/sweep_truth.py", "--runs", str(tmp_path / "truth"), "--only", "devices"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "1,2`" in line]
    rows = {way: cells for _, way, *cells in lines}
    _, samples, code, _, verdict, because = rows["plain"]
    assert (samples, code, verdict) == ("20 / 10", "0", "wrong in silence")
    assert because == "job 1: 1 of 2 processes; job 1: 10 of 20 samples"
    _, samples, code, folders, verdict, because = rows["seglab"]
    assert (samples, code, folders, verdict, because) == ("20 / 20", "0", "2 for 2", "right", "")
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and all(figure["ok"] for figure in figures.values())

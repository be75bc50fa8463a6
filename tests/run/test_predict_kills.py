"""Kills in the middle of predictions, as the benchmark does it, a few of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_after_kills_all_outputs_are_there_whole_and_none_was_made_twice(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/predict_kills.py", "--kills=4", "--files=8", f"--runs={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEGLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"]["value"] == 4
    assert all(
        found[name]["value"] == 0 for name in ("broken_files", "files_done_twice", "files_that_differ", "left_over")
    )

"""Every command of docs/prepare.md composes, and one after the other they do what the page says."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from seglab.run.catalogue import CONF

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "run"))

from run_jobs import clean_environment, composed  # noqa: E402

from seglab.run.prepare import prepare  # noqa: E402

TEXT = (ROOT / "docs/prepare.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()


def test_every_key_in_the_text_exists() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("prepare")
    assert {"what", "keep_days", "report_dir", "n_workers", "format"} <= config.keys()
    assert "on_error" in config.data and "SEGLAB_CACHE_DIR" in (CONF / "prepare.yaml").read_text()
    assert {"`what=list`", "`what=clean`", "`keep_days`", "`report_dir`", "`data.on_error=skip`"} <= set(
        re.findall(r"`[^`\n]+`", TEXT)
    )


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(
    crack_root: Path, ct_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = {"crack": crack_root, "lits": ct_root, "satellite": tmp_path / "report"}
    with clean_environment():
        for command in COMMANDS:
            python, script, *typed = shlex.split(command)
            assert (python, script) == ("python", "src/prepare.py")
            name = next((text.removeprefix("data=") for text in typed if text.startswith("data=")), "")
            overrides = [text.replace("<folder>", str(roots.get(name))) for text in typed]
            prepare(composed("prepare", [*overrides, f"paths.cache_dir={tmp_path / 'cache'}"]))
    told = capsys.readouterr().out
    assert told.count("0 errors") == 5 and "0 data set(s) and 0 case(s) removed" in told
    assert (tmp_path / "report" / "report.html").is_file() and list(tmp_path.glob("cache/reports/crack-*/preview.png"))

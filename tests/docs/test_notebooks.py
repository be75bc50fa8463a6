"""The notebooks run from top to bottom and carry no output."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
SMALL = (
    "trainer.max_epochs=1 trainer.limit_train_batches=2 trainer.limit_val_batches=1 trainer.limit_test_batches=2 "
    "trainer.accelerator=cpu trainer.threads=1 model.base_channels=4 data.batch_size=4"
)

every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


@every_notebook
def test_notebook_is_valid_and_has_no_output(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)]


@every_notebook
def test_notebook_defines_no_logic_of_its_own(file: Path) -> None:
    cells = nbformat.read(file, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert "import seglab" in code or "from seglab" in code
    assert not [line for line in code.splitlines() if line.lstrip().startswith(("def ", "class "))]


@pytest.mark.slow
@pytest.mark.timeout(300)
@every_notebook
def test_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("SEGLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGLAB_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SEGLAB_NOTEBOOK_OVERRIDES", SMALL)
    monkeypatch.delenv("RUN_ID", raising=False)
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "metrics.json").is_file()
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    assert not [output for output in outputs if output.output_type == "error"]

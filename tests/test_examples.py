"""Examples and notebooks run as they stand, and stay short."""

import json
import runpy
import tempfile
from pathlib import Path
from typing import Any

import pytest

from evergallery.network.published import packaged
from forked import forked, said_by
from forked import script as run_script

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
NOTEBOOKS = sorted(FOLDER.glob("notebooks/*.ipynb"))


def test_there_are_five_scripts_and_two_notebooks() -> None:
    assert (len(SCRIPTS), len(NOTEBOOKS)) == (5, 2)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = script.read_text()
    assert len(text.splitlines()) <= 30
    if "tf_efficientnet_lite0" in text and not packaged("tf_efficientnet_lite0"):
        pytest.skip("the extra `pretrained` is not installed")
    monkeypatch.chdir(tmp_path)
    # As of a script that Python runs; and one of them is imported by its name.
    monkeypatch.syspath_prepend(FOLDER)
    if "uvicorn" in text:
        # A server sets up the logging of its whole process, which the test runner's must not be.
        process = forked(tmp_path / "said", run_script, script, TMPDIR=tmp_path)
        print(said_by(process, tmp_path / "said"))
        assert process.exitcode == 0
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        runpy.run_path(str(script), run_name="__main__")
    assert capfd.readouterr().out.strip()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cells = json.loads(notebook.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "outputs are not kept"
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), notebook.name, "exec"), names)
    assert "check" in names

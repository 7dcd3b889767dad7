"""The command that runs every benchmark names every one, and says what it skips and why."""

from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NOT_RUN_BY_ITSELF = {"every.py", "pack.py", "rivals_worker.py"}
"""The command itself, what makes files of images, and what another benchmark starts."""


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import every

    return every


def test_every_benchmark_is_run(every: ModuleType) -> None:
    programs = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert {run.script for run in every.RUNS} == programs - NOT_RUN_BY_ITSELF


def test_the_page_of_benchmarks_names_each(every: ModuleType) -> None:
    page = (FOLDER / "README.md").read_text()
    assert [run.script for run in every.RUNS if f"`{run.script}" not in page] == []


def test_what_is_not_there_is_skipped_with_a_reason(
    every: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--list", "--only", "photographs.py", "gate.py", "command_line.py"]
    (tmp_path / "omniglot.npz").write_bytes(b"")
    assert every.main([*asked, "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition("benchmarks/")[2] for line in told if not line.startswith("Skipped")] == [
        "gate.py",
        f"photographs.py omniglot {tmp_path}/omniglot.npz",
    ]
    assert f"Skipped: photographs.py grocery {{data}}/grocery: there is no {tmp_path}/grocery/train" in told
    assert "Skipped: command_line.py --before {before}: it needs --before CHECKOUT" in told


def test_one_that_fails_does_not_stop_the_others(
    every: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    (tmp_path / "good.py").write_text("print('measured')")
    monkeypatch.setattr(every, "HERE", tmp_path)
    monkeypatch.setattr(every, "RUNS", (every.Run("bad.py"), every.Run("good.py")))
    assert every.main([]) == 1
    told = capfd.readouterr().out
    assert "measured" in told
    assert "Failed: bad.py" in told

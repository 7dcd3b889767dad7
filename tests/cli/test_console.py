"""What the terminal shows of names that people gave."""

import pytest

from evergallery.cli import console

NAME = "[/bold] :dog: [red]x"


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print(f"There is no {NAME}.", soft_wrap=True)
    console.print_table(f"Of {NAME}", [f"column {NAME}", "n"], [[NAME, NAME]])
    console.err.print(NAME)
    shown = capsys.readouterr()
    assert shown.out.count(NAME) == 5
    assert shown.err.strip() == NAME


def test_progress_shows_names_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.err, "_force_terminal", True)
    monkeypatch.setenv("COLUMNS", "200")
    with console.watching() as watcher:
        watcher.counted(NAME, 1, 2)
        watcher.said(f"about {NAME}")
    shown = capsys.readouterr().err
    assert f"about {NAME}" in shown
    assert shown.count(NAME) > 1

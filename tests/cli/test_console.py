"""What the terminal shows of names that people gave."""

from dataclasses import replace

import pytest

from evergallery.cli import console
from evergallery.cli.printing import print_plan
from evergallery.upgrade.plan import Plan

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


def test_a_plan_says_what_to_do_about_images_that_are_gone(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan("v2", None, {"v1": 40}, 0.25, 3.0, 4000, 30, 0, (), {}, {})
    print_plan(plan)
    assert "25 % of the sample were not found" in (said := capsys.readouterr().out)
    assert "name their folder with  --images FOLDER" in said
    print_plan(replace(plan, missing=0.0))
    assert "--images" not in capsys.readouterr().out

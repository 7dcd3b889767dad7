"""The search that is the same for every method, and the commit that a figure names."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evergallery.benchmark import provenance
from forked import forked, said_by, script

ROOT = Path(__file__).parents[2]
REHEARSAL = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import search
search.MAIN = {{name: search.MAIN[name] for name in ("l2", "bct")}}
search.SIZE, search.FACTORS, search.MOST, search.__file__ = 8, (1, 4), 3, __file__
whole = search.generate
search.generate = lambda classes: whole(classes=classes, train_per_class=4, test_per_class=2)
search.main()
"""
"""The script with few small characters and values."""


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import search

    yield search
    for name in ("search", "common"):
        sys.modules.pop(name, None)


def run(method: str, seed: int, alone: float, cross: float, commit: str = "a") -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        "commit": commit,
        "time": f"2026-01-0{seed + 1}",
        "hardware": {"processor": "P"},
        "precision": "bf16",
        "measures": {"compatibility": {"all": {"recall@1": [[0.1, None], [cross, alone]]}}},
    }


def test_what_is_chosen_is_best_in_both_vectors_together(search: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAIN", {"l2": "weight"})
    assert search.contender("l2", 1) == "l2"
    figures = {0.25: (0.9, 0.1), 1: (0.5, 0.5), 4: (0.4, 0.7), 16: (0.2, 0.8)}
    runs = {
        search.contender("l2", factor): [run("l2", seed, *figures[factor]) for seed in (0, 1)]
        for factor in search.FACTORS
    }
    assert set(runs) == {"l2@weight=2.5", "l2", "l2@weight=40", "l2@weight=160"}
    # What the rule does not ask for is not looked at, however good it is.
    beyond = {"l2@weight=0.625": [run("l2", seed, 1, 1) for seed in (0, 1)]}
    found = search.found({**beyond, **runs})["l2"]
    assert search.rows({"l2": found, "bct": {"weight": "weight", "best": "1", "default": "1"}}) == ["l2@weight=40"]
    assert (found["weight"], found["default"], found["best"]) == ("weight", "10", "40")
    assert found["values"]["2.5"] == {"both": [0.5, 0.5], "self": [0.9, 0.9], "cross": [0.1, 0.1]}


@pytest.mark.parametrize(
    ("best", "wanted"),
    [
        (1, [0.25, 1, 4, 16]),
        (4, [0.25, 1, 4, 16]),
        (16, [0.25, 1, 4, 16, 64]),
        (256, [0.25, 1, 4, 16, 64, 256, 1024]),
        (1 / 16, [1 / 64, 1 / 16, 0.25, 1, 4, 16]),
        # As many values for each method, and no more.
        (1e9, [0.25, 1, 4, 16, 64, 256, 1024, 4096]),
        (1e-9, [1 / 1024, 1 / 256, 1 / 64, 1 / 16, 0.25, 1, 4, 16]),
    ],
)
def test_the_grid_goes_on_while_its_best_is_at_an_edge(search: ModuleType, best: float, wanted: list[float]) -> None:
    def value(factor: float) -> float:
        return -abs(math.log(factor / best))

    found = search.tried(value)
    assert found == wanted
    assert len(found) <= search.MOST
    assert search.tried(lambda factor: 1.0) == [1 / 1024, 1 / 256, 1 / 64, 1 / 16, 0.25, 1, 4, 16], (
        "the first of equals"
    )


def test_methods_searched_for_side_by_side_are_one_file(
    search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes at once share the first generation and its images; the file has both, and more runs are not needed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "rehearsal.py"
    path.write_text(REHEARSAL)
    words = ["--work", str(tmp_path), "--seeds", "1", "--rehearse"]
    said = {method: tmp_path / f"{method} said" for method in ("l2", "bct")}
    both = [forked(file, script, path, *words, "--methods", method) for method, file in said.items()]
    for process, file in zip(both, said.values(), strict=True):
        text = said_by(process, file, 540)
        assert process.exitcode == 0, text
    assert not (tmp_path / "search.json").exists()
    (directory,) = tmp_path.glob("glyphs-*/runs")
    before = {path.name: path.stat().st_mtime_ns for path in directory.glob("*.json")}
    for name, value in {"SIZE": 8, "FACTORS": (1, 4), "MOST": 3}.items():
        monkeypatch.setattr(search, name, value)
    monkeypatch.setattr(search, "MAIN", {name: search.MAIN[name] for name in ("l2", "bct")})
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    search.main()
    assert {path.name: path.stat().st_mtime_ns for path in directory.glob("*.json")} == before
    found = json.loads((tmp_path / "search.json").read_text())
    assert set(found["methods"]) == {"l2", "bct"}
    assert (
        found["runs"]["count"] == len(before) == 1 + sum(len(method["values"]) for method in found["methods"].values())
    )
    for method in found["methods"].values():
        values = list(method["values"])
        assert len(values) == search.MOST or method["best"] not in (values[0], values[-1])
    assert "Rows for the tables:" in capsys.readouterr().out


def test_the_file_says_of_which_commits_its_runs_are(search: ModuleType) -> None:
    origins = search.origins([run("l2", 1, 0.5, 0.5, "b"), run("l2", 0, 0.5, 0.5), run("bct", 1, 0.5, 0.5)])
    assert origins["commits"] == ["a", "b"]
    assert (origins["count"], origins["first"], origins["last"]) == (3, "2026-01-01", "2026-01-02")


def test_the_page_says_how_many_values_lie_at_the_edge_and_how_the_file_came_about(
    search: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import common
    import results

    whole = common.recorded_whole("search")
    methods = whole["result"]["methods"].values()
    edge = sum(list(method["values"]).index(method["best"]) in (0, len(method["values"]) - 1) for method in methods)
    page = (ROOT / "docs" / "results.md").read_text()
    assert results.search() in page
    assert f"{edge} of the {len(methods)} chosen values" in page
    assert whole.get("note", "") in page
    sys.modules.pop("results", None)


def test_a_commit_without_the_script_that_measures_is_not_named_as_if_it_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    source, script = tmp_path / "src" / "module.py", tmp_path / "benchmarks" / "speed.py"
    for path in (source, script):
        path.parent.mkdir()
    source.write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "source alone")
    monkeypatch.setattr(provenance, "__file__", str(source))
    scripts = ":/benchmarks/*.py"
    assert (clean := provenance.commit(scripts)) is not None
    assert not clean.endswith("+changes")
    script.write_text("")
    assert provenance.commit(scripts) == f"{clean}+changes"
    assert provenance.commit() == clean, "the command of the package needs no script"
    git("add", ".")
    git("commit", "-m", "and the script")
    assert (whole := provenance.commit(scripts)) not in (None, clean)
    assert not str(whole).endswith("+changes")

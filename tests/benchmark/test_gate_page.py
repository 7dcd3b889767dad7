"""What the gate promotes, in small, and the page that says what the committed results say."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evergallery import Workspace
from evergallery.errors import RefusedError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gate

    yield gate
    for name in ("gate", "common"):
        sys.modules.pop(name, None)


def test_nothing_worse_is_promoted_and_verdicts_follow_intervals(gate: ModuleType) -> None:
    offers = 2
    rows = {(row["way"], row["model"]): row for row in gate.run(offers, queries=300, seed=1)}
    for way in gate.WAYS:
        assert rows[way, "random"]["promoted"] == rows[way, "worse"]["promoted"] == 0
        assert rows[way, "random"]["verdicts"]["worse"] == offers
        assert rows[way, "much better"]["promoted"] == offers
        assert rows[way, "equal"]["verdicts"]["worse"] + rows[way, "slightly better"]["verdicts"]["worse"] <= 1
    assert rows["refreshed", "much better"]["verdicts"]["needs refresh"] == offers
    assert rows["kept", "much better"]["verdicts"]["compatible"] == offers


def test_the_same_through_the_verbs(gate: ModuleType, tmp_path: Path) -> None:
    """Refreshed completely in the shadow, checked, and offered for promotion."""
    promoted = {}
    for name in ("random", "worse", "much better"):
        world, draw = gate.ClassGeometry.draw(0), np.random.default_rng(0)
        folder = tmp_path / name
        folder.mkdir()
        labels, *stored = world.held_out(gate.MODELS[name], "refreshed", 60, draw)
        shop = Workspace.create(folder / "shop")
        for number, vectors in enumerate(stored):
            np.savez(folder / "table.npz", embeddings=vectors, ids=np.arange(60).astype(str), labels=labels.astype(str))
            shop.import_vectors(folder / "table.npz", refresh=bool(number))
        labels, v1, v2 = world.held_out(gate.MODELS[name], "refreshed", 300, draw)
        np.savez(folder / "held-out.npz", labels=labels, v1=v1, v2=v2)
        shop.check("v2", folder / "held-out.npz")
        try:
            promoted[name] = shop.promote("v2").generation
        except RefusedError as refusal:
            promoted[name] = str(refusal)
    assert promoted["much better"] == "v2"
    assert all("NOT MET: self-test" in promoted[name] for name in ("random", "worse"))


def test_page_says_what_the_results_say(gate: ModuleType) -> None:
    page = gate.PAGE.read_text()
    written = page.partition("<!-- gate -->")[2].partition("<!-- end of gate -->")[0].strip()
    assert written == gate.written(gate.recorded("gate"))

"""A workspace that goes through several generations keeps no thread, file or vector that it does not need."""

import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import coloured_images

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_handles_and_threads_do_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak

    life = soak.SoakPlan(rounds=6, warm_up=2, refreshed_every=2, classes=3)
    images = coloured_images(classes=7 * 3, each=12)
    rows, searches = soak.soak(images, life, tmp_path)
    refreshed: list[dict[str, Any]] = [row for row in rows if row["refreshed"]]
    assert [row["generation"] for row in refreshed] == ["v2", "v4", "v6"]
    found = soak.growth(rows, life, searches)
    assert found["handles_more"] <= 0
    assert found["threads_more"] <= 0
    # Right after a commit all vectors are of one generation, and the gallery has the files of one, of which a log may have
    # been written a block longer; those of another generation would be half as many again.
    assert refreshed[2]["bytes"]["gallery"] <= 1.1 * refreshed[1]["bytes"]["gallery"]
    assert not searches.failed
    assert searches.done > 0
    for name in ("soak", "common"):
        sys.modules.pop(name, None)

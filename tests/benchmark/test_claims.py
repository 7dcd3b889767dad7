"""Prose is held to the tables: who finds more than whom is said only where the seeds carry it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import claims

    yield claims
    for name in ("claims", "common"):
        sys.modules.pop(name, None)


def run(method: str, seed: int, cross: float) -> dict[str, Any]:
    matrix = [[0.6, None], [cross, 0.8]]
    return {"format": 2, "method": method, "seed": seed, "measures": {"compatibility": {"all": {"recall@1": matrix}}}}


def test_each_claim_stands_in_its_page_and_is_carried(claims: ModuleType) -> None:
    assert len(claims.CLAIMS) > 10
    for claim in claims.CLAIMS:
        assert claim.stands(), f"{claim.page} does not say: {claim.words}"
        for source in claim.carried_by:
            assert source.holds(), f"{claim.page} says: {claim.words}; {source.place()} says: {source.text()}"


def test_the_page_of_results_has_every_claim(claims: ModuleType) -> None:
    assert claims.markdown() in (ROOT / "docs" / "results.md").read_text(), "run  python benchmarks/results.py"


@pytest.mark.parametrize(
    ("ones", "others", "more"),
    [
        ((0.70, 0.60, 0.65), (0.60, 0.50, 0.55), True),
        ((0.60, 0.50, 0.55), (0.70, 0.60, 0.65), False),
        ((0.70, 0.50, 0.60), (0.60, 0.60, 0.60), None),
    ],
)
def test_an_order_holds_only_as_the_seeds_carry_it(
    claims: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    ones: tuple[float, ...],
    others: tuple[float, ...],
    more: bool | None,
) -> None:
    runs = [run(name, seed, one) for name, all_ in (("l2", ones), ("bct", others)) for seed, one in enumerate(all_)]
    monkeypatch.setattr(claims, "read_runs", lambda directory: runs)
    for claimed in (True, False, None):
        assert claims.Order("glyphs-standard", "l2", "bct", "all cross", more=claimed).holds() == (claimed == more)


def test_one_seed_carries_no_order(claims: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "read_runs", lambda directory: [run("l2", 0, 0.9), run("bct", 0, 0.1)])
    assert not claims.Order("glyphs-standard", "l2", "bct", "all cross", more=True).holds()

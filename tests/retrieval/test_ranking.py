"""Long rankings: exactly those of a stable sort, however scores are spread and whatever they tie with."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from evergallery.retrieval import knn
from evergallery.retrieval.knn import Exclusion, Neighbours, nearest
from evergallery.retrieval.metrics import evaluate
from evergallery.retrieval.ranking import SAMPLED, StreamingTopK, first, room


def brute(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()  # type: ignore[no-any-return]


SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -np.inf]),
    st.floats(-2, 2, width=32),
    st.floats(width=32, allow_nan=False),
)


@given(st.lists(SCORES, min_size=1, max_size=300), st.data())
def test_the_first_are_those_of_a_stable_sort(scores: list[float], data: st.DataObject) -> None:
    row = np.array(scores, np.float32)
    k = data.draw(st.integers(1, len(row)))
    assert first(row, k).tolist() == brute(row, k)


@pytest.mark.parametrize("kind", ["spread", "equal", "few values", "rising", "falling", "a sample that misleads"])
@pytest.mark.parametrize("k", [1, 200, 5000, 19_999, 20_000])
def test_so_they_are_in_long_rows(kind: str, k: int) -> None:
    draw = np.random.default_rng(0)
    count = 20_000
    row = {
        "spread": draw.standard_normal(count),
        "equal": np.zeros(count),
        "few values": draw.integers(-2, 3, count) / 4,
        "rising": np.arange(count),
        "falling": -np.arange(count),
        "a sample that misleads": np.where(np.arange(count) % SAMPLED == 0, 2.0, draw.standard_normal(count)),
    }[kind].astype(np.float32)
    assert first(row, k).tolist() == brute(row, k)


@pytest.mark.parametrize("limit", [2**19, 2**28])
def test_a_search_for_many_finds_what_one_for_few_finds(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of signs, whose products are exact wherever in a block they are computed, with many ties.
    draw = torch.Generator().manual_seed(0)
    gallery = torch.randn(900, 8, generator=draw).sign()
    queries = gallery[:50]
    labels = torch.randint(3, (900,), generator=draw)
    cameras = torch.randint(2, (900,), generator=draw)
    for exclusion in (None, Exclusion(torch.arange(50)), Exclusion(None, labels[:50], labels, cameras[:50], cameras)):
        monkeypatch.setattr(knn, "LONG", 10**9)
        blocks = nearest(queries, gallery, 500, exclusion=exclusion)
        monkeypatch.setattr(knn, "LONG", 1)
        whole = nearest(queries, gallery, 500, exclusion=exclusion, memory_limit=limit)
        assert torch.equal(blocks.indices, whole.indices)
        assert torch.equal(blocks.scores, whole.scores)


@dataclass(frozen=True)
class ManyQueries:
    """Queries (Q, D), what they are searched among (N, D), and what of it is left out, in three ways."""

    queries: torch.Tensor
    gallery: torch.Tensor
    exclusions: tuple[Exclusion | None, ...]


@cache
def many_queries(kind: str) -> ManyQueries:
    # Of whole numbers, whose products are exact wherever in a block they are computed.
    draw = torch.Generator().manual_seed(0)
    gallery = torch.randint(-40, 40, (7000, 4), generator=draw).float()
    if kind == "many ties":
        gallery = gallery.sign()
    if kind == "a sample that misleads":
        gallery[::SAMPLED] *= 100
    queries = gallery[:100] + 1
    if kind == "one row in three misleads":
        gallery[::SAMPLED, 0] += 10_000
        queries[:, 0] = torch.where(torch.arange(100) % 3 == 0, 1, 0)
    labels, cameras = (torch.randint(count, (7000,), generator=draw) for count in (3, 2))
    itself = Exclusion(torch.arange(100))
    return ManyQueries(queries, gallery, (None, itself, Exclusion(None, labels[:100], labels, cameras[:100], cameras)))


@cache
def one_block_after_the_other(k: int, kind: str) -> list[Neighbours]:
    """What is found so of many queries, for each of the exclusions."""
    given = many_queries(kind)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(knn, "LONG", 10**9)
        patched.setattr(knn, "MANY_ITEMS", 10**9)
        return [nearest(given.queries, given.gallery, k, exclusion=exclusion) for exclusion in given.exclusions]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [2**23, 2**28])
@pytest.mark.parametrize("kind", ["spread", "many ties", "a sample that misleads", "one row in three misleads"])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_many_rankings_are_those_of_one_block_after_the_other(
    k: int, kind: str, limit: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, expected = many_queries(kind), one_block_after_the_other(k, kind)
    monkeypatch.setattr(knn, "MANY_QUERIES", 64)
    monkeypatch.setattr(knn, "LONG", 128)
    monkeypatch.setattr(knn, "MANY_ITEMS", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for exclusion, blocks in zip(given.exclusions, expected, strict=True):
            found = nearest(given.queries, given.gallery, k, exclusion=exclusion, memory_limit=limit)
            assert torch.equal(blocks.indices, found.indices)
            assert torch.equal(blocks.scores, found.scores)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("queries", "items", "among_candidates"), [(300, 12_000, True), (300, 5_000, False), (8, 12_000, False)]
)
def test_the_nearest_of_many_queries_in_many_items_are_found_among_candidates(
    queries: int, items: int, among_candidates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    candidates = knn._from_candidates

    def noting(some: torch.Tensor, *rest: object) -> object:
        asked.append(len(some))
        return candidates(some, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(knn, "_from_candidates", noting)
    draw = torch.Generator().manual_seed(0)
    nearest(torch.randn(queries, 4, generator=draw), torch.randn(items, 4, generator=draw), 10)
    assert bool(asked) == among_candidates


@given(st.lists(SCORES, min_size=2, max_size=25), st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 200))
def test_leading_scores_are_those_of_a_stable_sort_or_known_to_be_wrong(
    scores: list[float], seed: int, k: int, width: int
) -> None:
    # Those that are tried are here and there among scores below and above them.
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(2, draw.integers(100, 400)), loc=draw.integers(-4, 2)).astype(np.float32)
    places = draw.random(rows.shape) < draw.choice([0.02, 0.2, 1.0])
    rows[places] = draw.choice(np.array(scores, np.float32), np.count_nonzero(places))
    # As many as are wanted are kept, or about as many as there is room for, or one of those that are tried is the least.
    wanted = min(int(draw.choice([k, k + 1, room(k), room(k) + 1, int(draw.integers(1, 50))])), rows.shape[1])
    least = np.array([np.sort(rows[0])[-wanted] if draw.integers(2) else scores[0], -np.inf], np.float32)
    leading = StreamingTopK(least, k, width)
    for start in range(0, rows.shape[1], width):
        leading.add(np.ascontiguousarray(rows[:, start : start + width]), slice(0, 2), start)
    columns, found, right = leading.ranked(slice(0, 2))
    for place, row in enumerate(rows):
        kept = int((row >= least[place]).sum())
        assert right[place] == (k <= kept <= room(k))
        if right[place]:
            assert columns[place].tolist() == brute(row, k)
            assert found[place].tolist() == row[columns[place]].tolist()


def test_metrics_of_large_classes_are_those_of_the_definition() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(1200, 6, generator=draw))
    labels = torch.randint(4, (1200,), generator=draw)
    queries = slice(0, 40)
    found = evaluate(rows[queries], labels[queries], rows, labels, exclusion=Exclusion(torch.arange(40)))
    precision, average = [], []
    for index in range(40):
        scores = (rows.double() @ rows[index].double()).numpy()
        scores[index] = -np.inf
        right = (labels == labels[index]).numpy()
        count = int(right.sum()) - 1
        hits = right[np.argsort(-scores, kind="stable")[:count]]
        precision.append(hits.mean())
        average.append((hits * hits.cumsum() / np.arange(1, count + 1)).sum() / count)
    # A pair of scores may round to the other order.
    assert found.values["R-precision"] == pytest.approx(np.mean(precision), abs=1e-4)
    assert found.map_at_r == pytest.approx(np.mean(average), abs=1e-4)

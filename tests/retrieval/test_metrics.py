"""Search and metrics against per-query loops in float64, hand-worked cases, and laws."""

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import (
    METRICS,
    RetrievalMetrics,
    average_precision,
    average_precision_at_r,
    count_positives,
    evaluate,
    inverse_negative_penalty,
    metric_named,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
)

KS = (1, 3, 5)


@dataclass
class Problem:
    """Queries and a gallery with labels and cameras."""

    q: NDArray[np.float64]
    g: NDArray[np.float64]
    ql: NDArray[np.int64]
    gl: NDArray[np.int64]
    qc: NDArray[np.int64]
    gc: NDArray[np.int64]
    itself: NDArray[np.int64]

    def exclusion(self, kind: str) -> Exclusion | None:
        t = torch.from_numpy
        if kind == "none":
            return None
        if kind == "itself":
            return Exclusion(t(self.itself))
        return Exclusion(t(self.itself), t(self.ql), t(self.gl), t(self.qc), t(self.gc))

    def evaluate(self, kind: str, **arguments: Any) -> RetrievalMetrics:
        t = torch.from_numpy
        return evaluate(
            t(self.q), t(self.ql), t(self.g), t(self.gl), ks=KS, exclusion=self.exclusion(kind), **arguments
        )  # fmt: skip


def problem(seed: int, queries: int = 14, gallery: int = 23, classes: int = 5, levels: int | None = None) -> Problem:
    """Random; with ``levels``, coordinates are coarse so that many scores are equal."""
    draw = np.random.default_rng(seed)

    def rows(count: int) -> NDArray[np.float64]:
        values = draw.normal(size=(count, 4)) if levels is None else draw.integers(0, levels, (count, 4)) + 0.0
        lengths: NDArray[np.float64] = np.ones((count, 1)) if levels else np.linalg.norm(values, axis=1, keepdims=True)
        made: NDArray[np.float64] = values / lengths
        return made

    g = rows(gallery)
    itself = draw.integers(-1, gallery, queries)
    q = np.where(itself[:, None] >= 0, g[itself], rows(queries))
    # Labels far apart: nothing may allocate by the largest of them.
    names = draw.integers(0, 2**60, classes)
    gl = names[draw.integers(0, classes, gallery)]
    ql = np.where(itself >= 0, gl[itself], names[draw.integers(0, classes, queries)])
    gc = draw.integers(0, 3, gallery)
    qc = np.where(itself >= 0, gc[itself], draw.integers(0, 3, queries))
    return Problem(q, g, ql, gl, qc, gc, itself)


def brute_force(p: Problem, kind: str) -> dict[str, float]:
    """Every definition, one query and one rank at a time."""
    sums: dict[str, list[float]] = {}
    dropped = 0
    for i in range(len(p.q)):
        allowed = []
        for j in range(len(p.g)):
            out = kind != "none" and p.itself[i] == j
            out |= kind == "camera" and p.ql[i] == p.gl[j] and p.qc[i] == p.gc[j]
            if not out:
                allowed.append(j)
        ranking = sorted(allowed, key=lambda j: (-float(p.q[i] @ p.g[j]), j))
        hits = [bool(p.gl[j] == p.ql[i]) for j in ranking]
        relevant = sum(hits)
        if relevant == 0:
            dropped += 1
            continue
        precision = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits))]
        values = {f"recall@{k}": float(any(hits[:k])) for k in KS}
        values |= {f"precision@{k}": sum(hits[:k]) / k for k in KS}
        values["R-precision"] = sum(hits[:relevant]) / relevant
        values["mAP@R"] = sum(precision[r] for r in range(relevant) if hits[r]) / relevant
        values["mAP"] = sum(precision[r] for r in range(len(hits)) if hits[r]) / relevant
        values["mINP"] = relevant / (len(hits) - hits[::-1].index(True))
        depth = max(*KS, max_positives(p, kind))
        first = hits.index(True)
        values["MRR"] = 1 / (first + 1) if first < depth else 0.0
        for name, value in values.items():
            sums.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in sums.items()}
    return {**means, "queries": len(p.q) - dropped, "dropped": dropped}


def max_positives(p: Problem, kind: str) -> int:
    counts = []
    for i in range(len(p.q)):
        excluded = {int(p.itself[i])} if kind != "none" else set()
        counts.append(
            sum(
                p.gl[j] == p.ql[i] and j not in excluded and not (kind == "camera" and p.gc[j] == p.qc[i])
                for j in range(len(p.g))
            )
        )
    return int(max(counts))


@pytest.mark.parametrize("kind", ["none", "itself", "camera"])
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 2]), limit=st.sampled_from([1, 400, 3000, 2**28]))
@settings(max_examples=30, deadline=None)
def test_equals_the_loops_whatever_the_memory(kind: str, seed: int, levels: int | None, limit: int) -> None:
    p = problem(seed, levels=levels)
    found = p.evaluate(kind, full_ranking=True, memory_limit=limit).to_dict()
    expected = brute_force(p, kind)
    assert set(found) == set(expected), "brute_force has every metric"
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_the_glossary_has_every_metric_as_the_table_explains_it() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "glossary.md").read_text()
    rows = page.splitlines()
    assert runpy.run_path(str(docs / "metrics.py"))["written"](page) == page, "run  python docs/metrics.py"
    for name, metric in METRICS.items():
        assert f"| **{name}** | {metric.explained} |" in rows


def test_a_figure_names_its_metric() -> None:
    assert metric_named("recall@17") is METRICS["recall@k"]
    assert metric_named("nDCG@5") is None, "which is of grades"


@given(seed=st.integers(0, 10_000), k=st.integers(1, 30), limit=st.sampled_from([1, 500, 2**28]))
@settings(max_examples=40, deadline=None)
def test_neighbours_are_exact_with_ties_in_gallery_order(seed: int, k: int, limit: int) -> None:
    p = problem(seed, levels=2)
    found = nearest(torch.from_numpy(p.q), torch.from_numpy(p.g), k, memory_limit=limit)
    for i in range(len(p.q)):
        scores = p.g @ p.q[i]
        expected = sorted(range(len(p.g)), key=lambda j: (-scores[j], j))[:k]
        missing = k - len(expected)
        assert found.indices[i].tolist() == expected + [-1] * missing
        assert found.scores[i].tolist() == [*scores[expected], *[-np.inf] * missing]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_order_of_the_gallery_does_not_matter_without_ties(seed: int) -> None:
    p = problem(seed)
    order = np.random.default_rng(seed).permutation(len(p.g))
    place = np.argsort(order)
    shuffled = Problem(
        p.q, p.g[order], p.ql, p.gl[order], p.qc, p.gc[order], np.where(p.itself >= 0, place[p.itself], -1)
    )
    assert shuffled.evaluate("itself").to_dict() == pytest.approx(p.evaluate("itself").to_dict(), abs=1e-6)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_ranges_and_order(seed: int) -> None:
    metrics = problem(seed).evaluate("itself", full_ranking=True)
    values = [value for name, value in metrics.to_dict().items() if name not in ("queries", "dropped")]
    assert all(0 <= value <= 1 for value in values)
    assert metrics.recall[1] <= metrics.recall[3] <= metrics.recall[5]
    assert metrics.map_at_r <= metrics.values["R-precision"] + 1e-9


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_more_distractors_never_help(seed: int) -> None:
    p = problem(seed)
    more = np.random.default_rng(seed).normal(size=(9, 4))
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    wider = Problem(
        p.q, np.vstack([p.g, more]), p.ql, np.append(p.gl, [-1] * 9), p.qc, np.append(p.gc, [9] * 9), p.itself
    )
    assert wider.evaluate("itself").recall[1] <= p.evaluate("itself").recall[1]


def test_random_features_give_chance_and_not_one_hundred_per_cent() -> None:
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(2000, 32, generator=draw))
    labels = torch.arange(2000) % 20
    metrics = evaluate(embeddings, labels, embeddings, labels, exclusion=Exclusion(torch.arange(2000)))
    assert metrics.recall[1] == pytest.approx(99 / 1999, abs=0.02)
    assert metrics.values["R-precision"] == pytest.approx(99 / 1999, abs=0.01)


class TestByHand:
    hits = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    positives = torch.tensor([2, 3])

    def test_values(self) -> None:
        assert recall_at_k(self.hits, 1).tolist() == [0, 1]
        assert recall_at_k(self.hits, 2).tolist() == [1, 1]
        assert precision_at_k(self.hits, 4).tolist() == [0.5, 0.5]
        assert r_precision(self.hits, self.positives).tolist() == pytest.approx([1 / 2, 1 / 3])
        assert average_precision_at_r(self.hits, self.positives).tolist() == pytest.approx([(1 / 2) / 2, 1 / 3])
        assert reciprocal_rank(self.hits).tolist() == pytest.approx([1 / 2, 1])

    def test_queries_without_a_positive_are_dropped_and_counted(self) -> None:
        embeddings = torch.eye(4)
        labels = torch.tensor([7, 7, 8, 9])
        metrics = evaluate(embeddings, labels, embeddings, labels, ks=(1,), exclusion=Exclusion(torch.arange(4)))
        assert (metrics.queries, metrics.dropped) == (2, 2)
        assert metrics.valid.tolist() == [True, True, False, False]

    def test_nothing_to_search_for(self) -> None:
        metrics = evaluate(torch.eye(2), torch.tensor([1, 2]), torch.eye(2), torch.tensor([3, 4]))
        assert (metrics.queries, metrics.dropped, metrics.recall[1]) == (0, 2, 0.0)

    def test_full_ranking(self) -> None:
        hits = torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 1, 1]], dtype=torch.bool)
        expected = [(1 / 2 + 2 / 3) / 2, (1 + 2 / 4 + 3 / 5) / 3]
        assert average_precision(hits, self.positives).tolist() == pytest.approx(expected)
        assert inverse_negative_penalty(hits, self.positives).tolist() == pytest.approx([2 / 3, 3 / 5])

    def test_empty_sides(self) -> None:
        labels, none = torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64)
        outside = Exclusion(torch.tensor([-1, -1]))
        metrics = evaluate(torch.eye(2), labels, torch.zeros(0, 2), none, exclusion=outside, full_ranking=True)
        assert (metrics.queries, metrics.dropped, metrics.values["mAP"]) == (0, 2, 0.0)
        metrics = evaluate(torch.zeros(0, 2), none, torch.eye(2), labels)
        assert (metrics.queries, metrics.dropped) == (0, 0)

    def test_outcome_of_each_query(self) -> None:
        gallery = torch.eye(3)
        metrics = evaluate(gallery, torch.tensor([4, 5, 9]), gallery, torch.tensor([4, 4, 5]), ks=(1,))
        assert metrics.hits_at_1.tolist() == [True, False, False]
        assert metrics.valid.tolist() == [True, True, False]
        assert repr(metrics).startswith("RetrievalMetrics(recall@1=0.5000, ")
        assert repr(metrics).endswith("queries=2, dropped=1)")


def test_labels_of_the_exclusion_may_be_finer_than_those_of_the_metrics() -> None:
    query, gallery = torch.tensor([1]), torch.tensor([1, 1, 1, 2])
    zero = torch.zeros(1, dtype=torch.int64)
    cameras = torch.tensor([0, 0, 1, 0])
    # Items 0 and 3 share the query's product and camera, item 1 is itself: item 2 stays.
    exclusion = Exclusion(torch.tensor([1]), zero + 7, torch.tensor([7, 8, 7, 7]), zero, cameras)
    assert count_positives(query, gallery, exclusion).tolist() == [1]


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        (torch.eye(3), torch.eye(4), 1, "Queries have 3 dimensions and the gallery 4: they come from different"),
        (torch.eye(3), torch.eye(3), 0, "k is 0"),
        (torch.tensor([[1.0, float("nan")]]), torch.eye(2), 1, "Row 0 of the queries is not finite"),
        (torch.eye(2), torch.tensor([[1.0, 0], [float("inf"), 0]]), 1, "Row 1 of the gallery is not finite"),
        (torch.ones(3), torch.eye(3), 1, r"must be \(Q, D\) and \(G, D\)"),
    ],
)
def test_wrong_input(queries: torch.Tensor, gallery: torch.Tensor, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest(queries, gallery, k)


def test_labels_and_ks_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"queries have 2 embeddings and labels of shape \(3,\)"):
        evaluate(torch.eye(2), torch.arange(3), torch.eye(2), torch.arange(2))
    with pytest.raises(InputError, match="every k must be at least 1"):
        evaluate(torch.eye(2), torch.arange(2), torch.eye(2), torch.arange(2), ks=(0, 1))
    for at_k in (recall_at_k, precision_at_k):
        with pytest.raises(InputError, match=r"k in \(-1,\): every k must be at least 1"):
            at_k(torch.ones(2, 3, dtype=torch.bool), -1)


def test_what_is_no_tensor_or_no_list_is_named_with_what_to_write() -> None:
    rows, labels = torch.eye(2), torch.arange(2)
    with pytest.raises(InputError, match=r"^ks = 5 is not usable: it has to be a list of whole numbers\.$"):
        evaluate(rows, labels, rows, labels, ks=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^gallery_embeddings = ndarray of shape \(2, 2\) .*: write torch.from_numpy"):
        evaluate(rows, labels, rows.numpy(), labels)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu() -> None:
    p = problem(3, queries=50, gallery=400)
    q, g = torch.from_numpy(p.q), torch.from_numpy(p.g)
    assert torch.equal(nearest(q, g, 9).indices, nearest(q.cuda(), g.cuda(), 9).indices.cpu())

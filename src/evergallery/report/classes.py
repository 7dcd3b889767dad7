"""Class by class: where a generation finds least, with pictures of what it takes for it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.report.measurements import Measurements
from evergallery.report.page import pictured, shown_image
from evergallery.retrieval.bootstrap import wilson

SHOWN_CLASSES, SHOWN_QUERIES = 5, 4
FIRST = 10
"""Classes that are listed at once; the others are unfolded."""

Counts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Queries that counted, and those of them that were answered rightly, by class."""


def classes(found: Measurements) -> dict[str, Any]:
    """recall@1 of every class, the worst first: by the candidate alone, and where there is a base, beside it."""
    name, base = found.candidate, found.base
    tests = [(name, name)] if base is None else [(name, name), (base, base), (name, base)]
    counted = [_counts(found, *test) for test in tests]
    queries, hits = counted[0]
    there = np.flatnonzero(queries)
    worst = there[np.lexsort((-queries[there], hits[there] / queries[there]))]
    titles = found.check.images.images.classes
    rows = [(titles[label], int(queries[label]), [_cell(counts, label) for counts in counted]) for label in worst]
    low = [titles[label] for label in worst if hits[label] < queries[label]]
    return {
        "columns": [f"{name} alone", *([] if base is None else [f"{base} alone", f"{name} in vectors of {base}"])],
        "first": rows[:FIRST],
        "rest": rows[FIRST:],
        "sentence": _words(name, rows, low),
        "pictured": pictured(found.check.images.images),
        "worst": [
            (titles[label], int(queries[label] - hits[label]), _missed(found, int(label)))
            for label in worst[:SHOWN_CLASSES]
            if hits[label] < queries[label]
        ],
    }


def _counts(found: Measurements, query: str, gallery: str) -> Counts:
    metrics, images = found.check.matrix[query, gallery]["all"], found.check.images
    labels = images.images.labels[images.query]
    valid = metrics.valid.numpy()
    right = valid & metrics.hits_at_1.numpy()
    size = len(images.images.classes)
    return np.bincount(labels[valid], minlength=size), np.bincount(labels[right], minlength=size)


def _cell(counts: Counts, label: int) -> str:
    queries, hits = int(counts[0][label]), int(counts[1][label])
    if queries == 0:
        return "–"
    low, high = wilson(hits / queries, queries)
    return f"{100 * hits / queries:.0f} ({100 * low:.0f}–{100 * high:.0f})"


def _missed(found: Measurements, label: int) -> list[dict[str, Any]]:
    """Some queries of a class that the candidate answers wrongly, each with the item that it takes for it."""
    metrics, images = found.check.matrix[found.candidate, found.candidate]["all"], found.check.images
    wrong = metrics.valid.numpy() & ~metrics.hits_at_1.numpy() & (images.images.labels[images.query] == label)
    rows = np.flatnonzero(wrong)
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:SHOWN_QUERIES])
    nearest = metrics.nearest.numpy()
    return [
        {
            "query": shown_image(images.images, int(images.query[row]), label),
            "after": shown_image(images.images, int(images.gallery[nearest[row]]), label),
        }
        for row in chosen
    ]


def _words(name: str, rows: list[tuple[str, int, list[str]]], low: list[str]) -> str:
    if not low:
        return f"{name} alone answers every query of each of {len(rows)} classes rightly."
    first, queries, cells = rows[0]
    return (
        f"{name} alone finds least of {first}: {cells[0]} % of {queries} queries. {len(rows) - len(low)} of {len(rows)} classes "
        f"are found without a fault."
    )

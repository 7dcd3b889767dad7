"""What an index for approximate search is worth: measured on the vectors that it holds, never assumed."""

from dataclasses import dataclass

import numpy as np

from evergallery.gallery.items import Filter, View
from evergallery.gallery.store import GalleryStore

FLOOR = 0.95
"""Smallest recall@10 with which an index answers unasked."""
LARGEST_CHANGE = 0.2
"""Share of an index's vectors that may go before its recall has to be measured anew: the engine rebuilds it from there on."""
NEIGHBOURS = 10
# 256 × 10 neighbours tell a recall of 0.95 from 0.96.
SAMPLE = 256
# Scores of one pair differ in their last digits between two ways to compute them.
SCORE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Index:
    """An index over the vectors of one generation, as it was found when the gallery was compacted.

    Attributes:
        vectors: how many it holds.
        recall: recall@10 of approximate against exact search without a filter, in [0, 1].
        measured: when, ISO 8601 in UTC.
        changed: how many of its vectors have been deleted or replaced since, at most.
    """

    vectors: int
    recall: float
    measured: str
    changed: int = 0

    @property
    def serves(self) -> bool:
        """Whether it answers where nobody asks for exact search."""
        return self.recall >= FLOOR and self.changed <= LARGEST_CHANGE * self.vectors

    def __str__(self) -> str:
        found = f"recall@10 {100 * self.recall:.1f} % over {self.vectors} vectors"
        if self.serves:
            return f"index, {found}"
        reason = "finds too little" if self.recall < FLOOR else f"has lost {self.changed} of them, compact again"
        return f"exact; the index ({found}) {reason}"


def measured_recall(store: GalleryStore, generation: str) -> float:
    """Recall@10 of approximate search among the vectors of a generation, each of a sample searched among the others.

    An item counts as found where its score is that of a true neighbour: of equal ones any will do.
    """
    where, view = Filter(generations=(generation,)), View()
    # The order of items is that of hashes of their ids: the first ones are a random sample.
    sample = next(iter(store.iterate(where, batch_size=SAMPLE, view=view)), [])
    if len(sample) < 2:
        return 1.0
    queries = np.stack([item.embedding for item in sample])
    exact, approximate = (
        [
            [match.score for match in found if match.item.id != item.id][:NEIGHBOURS]
            for item, found in zip(
                sample, store.search(queries, NEIGHBOURS + 1, where=where, exact=way, view=view), strict=True
            )
        ]
        for way in (True, False)
    )
    found = sum(
        sum(score >= best[-1] - SCORE_TOLERANCE for score in scores)
        for best, scores in zip(exact, approximate, strict=True)
    )
    return found / sum(map(len, exact))

"""The recall of an index for approximate search: measured on the vectors that it holds, never assumed."""

import numpy as np

from evergallery.gallery.items import EVERYTHING, Filter
from evergallery.gallery.store import GalleryStore

NEIGHBOURS = 10
# 256 × 10 neighbours tell a recall of 0.95 from 0.96.
SAMPLE = 256
# Scores of one pair differ in their last digits between two ways to compute them.
SCORE_TOLERANCE = 1e-5


def measured_recall(store: GalleryStore, generation: str) -> float:
    """Recall@10 of approximate search among the vectors of a generation, each of a sample searched among the others.

    An item counts as found where its score is that of a true neighbour: of equal ones any will do.
    """
    where, view = Filter(generations=(generation,)), EVERYTHING
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

"""Points of several shards together, in order of their ids: a window holds all there is between two ids.

So an item that moves from one shard to another between two windows is met exactly once, wherever it is.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence

import qdrant_edge as engine

from evergallery.gallery.edge.points import PointContent, point_of
from evergallery.gallery.edge.shard import Shard

# Ids are spread evenly, so that parts of the shards in proportion to their sizes end near one another; this much more is read
# of each, lest a small shard end the window early.
MARGIN = 8


def shares(counts: Sequence[int], size: int) -> list[int]:
    """Return how much of each shard to read for a window of about this size."""
    return [min(size, size * count // max(1, sum(counts)) + MARGIN) for count in counts]


def window(
    shards: Sequence[tuple[Shard, int]],
    condition: engine.Filter | None,
    start: uuid.UUID | None,
    size: int,
    content: PointContent,
) -> tuple[list[list[engine.Record]], uuid.UUID | None]:
    """The first ``size`` ids from ``start`` on, with their points that satisfy a condition; and where the next window starts.

    Args:
        shards: with how much to read of each.
        condition: what is looked for.
        start: smallest id; ``None`` to begin.
        size: at most so many.
        content: of the points that is read.
    """
    # By numbers, which are compared many times as fast as the UUIDs that they are.
    found: defaultdict[int, list[engine.Record]] = defaultdict(list)
    ends: list[int] = []
    for shard, share in shards:
        records, following = shard.page(condition, start, share, content)
        if following is not None:
            ends.append(following.int)
        for record in records:
            found[point_of(record).int].append(record)
    end = min(ends, default=None)
    complete = sorted(point for point in found if end is None or point < end)
    if len(complete) > size:
        end = complete[size]
    return [found[point] for point in complete[:size]], None if end is None else uuid.UUID(int=end)

"""The lineage as lines beside a list: one row a generation, oldest first."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """The drawing beside one generation; a lane is a column, counted from the left.

    Attributes:
        name: of the generation.
        lane: of its node.
        arrives: whether its line comes from above.
        leaves: whether its line goes on below, to children.
        through: lanes whose lines pass, from above to below.
        branch: the lane of the parent's line, where the node hangs on it sideways; ``None`` otherwise.
        ends: whether the parent's line ends here.
    """

    name: str
    lane: int
    arrives: bool
    leaves: bool
    through: tuple[int, ...]
    branch: int | None
    ends: bool


def lineage_rows(parents: Mapping[str, str | None]) -> list[Row]:
    """Lay out a forest so that no two lines share a lane in the same row.

    An only child stands below its parent; several hang to the right of the parent's line, which runs down to the last one.

    Args:
        parents: of each generation by name, oldest first; a parent that is not among them counts as none.
    """
    names = list(parents)
    place = {name: index for index, name in enumerate(names)}
    children: dict[str, list[str]] = {name: [] for name in names}
    for name, parent in parents.items():
        if parent in children:
            children[parent].append(name)
    # A line reaches from its generation to the last child; an only child goes on in the same lane.
    last = {name: place[found[-1]] if found else place[name] for name, found in children.items()}
    lane: dict[str, int] = {}
    taken: list[tuple[int, int, int]] = []
    for name in names:
        parent = parents[name]
        first, beginning = 0, place[name]
        if parent in children:
            if len(children[parent]) == 1:
                first, beginning = lane[parent], place[name] + 1
            else:
                first = lane[parent] + 1
        column = first
        while any(column == other and start <= last[name] and beginning <= end for other, start, end in taken):
            column += 1
        lane[name] = column
        taken.append((column, place[name], last[name]))
    rows = []
    for name in names:
        parent = parents[name]
        only = parent in children and len(children[parent]) == 1
        branch = lane[parent] if parent in children and lane[parent] != lane[name] else None
        through = sorted(
            lane[other] for other in names if place[other] < place[name] < last[other] and lane[other] != lane[name]
        )
        rows.append(
            Row(
                name,
                lane[name],
                arrives=only and branch is None,
                leaves=bool(children[name]),
                through=tuple(through),
                branch=branch,
                ends=branch is not None and parent is not None and last[parent] == place[name],
            )
        )
    return rows

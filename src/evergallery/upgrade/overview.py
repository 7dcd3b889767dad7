"""An overview of a workspace: every item in exactly one state, what runs now, and how two generations differ."""

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evergallery.errors import BusyError, RefusedError
from evergallery.files import holder
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import answers_from_refresh, may_stand_together, space_of
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space

ItemState = Literal["current", "compatible", "needs refresh", "unknown"]
"""States of items whose vector is the promoted generation's own, one that it may search, one that it may not, or nobody's."""


@dataclass(frozen=True)
class SpaceStatus:
    """The visible items of one space.

    Attributes:
        name: of the space.
        items: how many.
        state: of all of them.
    """

    name: str
    items: int
    state: ItemState


@dataclass(frozen=True)
class RefreshStatus:
    """An open refresh.

    Attributes:
        id: of the refresh.
        generation: that queries the new vectors.
        adapter: that maps them, if one does.
        shown: whether searches see them.
        started: ISO 8601, UTC.
        refreshed: items that have a new vector.
        remaining: items that have none yet.
        seconds_left: at the pace of its last run; ``None`` before it has run.
        due: whether the generation that answers queries them, so that the next call of ``refresh`` shows what is hidden.
    """

    id: str
    generation: str
    adapter: str | None
    shown: bool
    started: str
    refreshed: int
    remaining: int
    seconds_left: float | None
    due: bool

    @property
    def waiting(self) -> str:
        """Return what hidden vectors wait for, in words."""
        return f"refresh {self.generation}" if self.due else f"the promotion of {self.generation}"


@dataclass(frozen=True)
class Status:
    """The standing of a workspace.

    Attributes:
        promoted: the generation that answers queries.
        answer: how it does over older vectors, in words; ``None`` in the usual way, as the last check has shown.
        forced: why it does although the gate refused it, in the words of whoever decided that; ``None`` where it did not.
        generations: how many there are.
        spaces: the gallery's items; ``None`` while another process uses the gallery.
        refresh: the open one.
        problems: items that keep an old vector against somebody's will, by kind, and the reasons by item.
        running: what runs in this workspace now, by what it holds.
    """

    promoted: str | None
    answer: str | None
    forced: str | None
    generations: int
    spaces: tuple[SpaceStatus, ...] | None
    refresh: RefreshStatus | None
    problems: dict[str, int]
    reasons: dict[str, str]
    running: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON values."""
        return asdict(self)


def status(holdings: Holdings) -> Status:
    """Items by space and state, the open refresh, what runs now."""
    state = holdings.state
    folders = (holdings.directory / "generations", holdings.directory / state.store)
    mine = f"process {os.getpid()} "
    running = tuple(
        who for folder in folders if (who := holder(folder / ".lock")) is not None and not who.startswith(mine)
    )
    problems = holdings.notes.problems()
    try:
        spaces: tuple[SpaceStatus, ...] | None = _spaces(holdings)
        opened = _refresh(holdings)
    except BusyError:
        spaces, opened = None, None
    return Status(
        promoted=state.promoted,
        answer=None if state.answer.way == "checked" else str(state.answer),
        forced=state.forced,
        generations=len(holdings.generations()),
        spaces=spaces,
        refresh=opened,
        problems=dict(holdings.notes.problems_by_kind()),
        reasons={problem.item: problem.reason for problem in problems},
        running=running,
    )


def log(holdings: Holdings) -> list[dict[str, Any]]:
    """Every operation on this workspace, oldest first: when, who, what, figures."""
    return holdings.journal.entries()


def diff(holdings: Holdings, one: str, other: str) -> dict[str, tuple[Any, Any]]:
    """Return what two generations differ in, by name: of classes those that only one knows, and neither time nor checksums."""
    return differences(holdings.generation(one), holdings.generation(other))


def _spaces(holdings: Holdings) -> tuple[SpaceStatus, ...]:
    state = holdings.state
    promoted = Space(holdings.promoted) if state.promoted else None
    found = []
    for fingerprint, count in holdings.gallery.count_by_generation().items():
        try:
            space = space_of(holdings, fingerprint)
        except RefusedError:
            found.append(SpaceStatus(fingerprint[:12], count, "unknown"))
            continue
        standing: ItemState = "needs refresh"
        if promoted is not None and fingerprint == promoted.fingerprint:
            standing = "current"
        elif promoted is not None and may_stand_together(state, promoted, space):
            standing = "compatible"
        found.append(SpaceStatus(space.name, count, standing))
    return tuple(sorted(found, key=lambda space: space.name))


def _refresh(holdings: Holdings) -> RefreshStatus | None:
    opened = holdings.state.refresh
    if opened is None:
        return None
    view = holdings.state.view()
    left = holdings.gallery.count_by_generation(view=view.remaining(opened.id))
    remaining = sum(count for fingerprint, count in left.items() if fingerprint != opened.fingerprint)
    before = holdings.gallery.count(view=view.before(opened.id))
    refreshed = before - sum(left.values())
    paces = [
        entry["seconds"] / entry["refreshed"]
        for entry in holdings.journal.entries()
        if entry["operation"] == "refresh" and entry["refresh"] == opened.id and entry["refreshed"]
    ]
    return RefreshStatus(
        id=opened.id,
        generation=opened.generation,
        adapter=opened.adapter,
        shown=opened.shown,
        started=opened.started,
        refreshed=refreshed,
        remaining=remaining,
        seconds_left=paces[-1] * remaining if paces else None,
        due=answers_from_refresh(holdings, holdings.state),
    )


def differences(first: Generation, second: Generation) -> dict[str, tuple[Any, Any]]:
    """Return what the cards of two generations differ in, by dotted name, with both values; time and checksums left out.

    Classes are told as those that only one of them knows.
    """
    cards = [_flat(generation.card.model_dump(mode="json")) for generation in (first, second)]
    found: dict[str, tuple[Any, Any]] = {}
    known = set(first.card.classes), set(second.card.classes)
    if known[0] != known[1]:
        found["classes only here"] = (sorted(known[0] - known[1]), sorted(known[1] - known[0]))
    for name in dict.fromkeys((*cards[0], *cards[1])):
        before, after = (card.get(name) for card in cards)
        if before != after:
            found[name] = (before, after)
    return found


def _flat(card: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in card.items():
        if not prefix and name in ("name", "checksums", "created", "run", "classes", "new_classes", "memory"):
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat

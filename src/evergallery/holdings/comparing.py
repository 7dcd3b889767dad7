"""The spaces that a workspace's gallery holds, and which of them may be compared."""

from collections.abc import Sequence

from evergallery.errors import RefusedError
from evergallery.gallery.items import NO_FILTER, Filter, View
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State


def stored_spaces(holdings: Holdings, where: Filter = NO_FILTER, view: View | None = None) -> list[Space]:
    """The spaces whose vectors the gallery holds, as far as ``where`` admits them."""
    held = sorted(holdings.gallery.generations(view=view))
    return [space_of(holdings, name) for name in held if not where.generations or name in where.generations]


def space_names(holdings: Holdings) -> dict[str, str]:
    """Names of generations, and of adapters that map stored vectors, by fingerprint."""
    names = {generation.fingerprint: generation.name for generation in holdings.generations()}
    return names | {adapter.fingerprint: adapter.name for adapter in holdings.adapters()}


def space_of(holdings: Holdings, fingerprint: str) -> Space:
    """The space of a fingerprint.

    Raises:
        RefusedError: it is of no generation and no adapter here.
    """
    by_name = {generation.name: generation for generation in holdings.generations()}
    for generation in by_name.values():
        if generation.fingerprint == fingerprint:
            return Space(generation)
    for stored in holdings.adapters():
        if stored.card.fingerprint == fingerprint and stored.card.source.name in by_name:
            return Space(by_name[stored.card.source.name], stored)
    raise RefusedError(
        f"No generation of {holdings.directory} has the fingerprint {fingerprint[:12]}…: vectors of an unknown space cannot "
        f"be compared; list the known ones with  evergallery generations"
    )


def answers_from_refresh(holdings: Holdings, state: State) -> bool:
    """Return whether the open refresh is for the generation that answers, so that only a rollback keeps its vectors hidden."""
    opened = state.refresh
    return opened is not None and any(
        opened.is_for(generation.name, generation.fingerprint)
        for generation in holdings.generations()
        if generation.name == state.promoted
    )


def may_stand_together(state: State, asker: Space, stored: Space) -> bool:
    """Return whether queries of one space are answered from vectors of another, too.

    They have been shown to serve there; or the vectors are asked by queries of the generation that made them.
    """
    own = state.answer.looks_twice and stored.adapter is None
    return own or state.may_compare(asker.fingerprint, stored.fingerprint)


def require_compatible(holdings: Holdings, asker: Space, stored: Sequence[Space], state: State | None = None) -> None:
    """Refuse to compare what nobody has shown to be comparable.

    Raises:
        RefusedError: the message names the command that would show it.
    """
    state = state or holdings.state
    for other in stored:
        if not may_stand_together(state, asker, other):
            newer, older = sorted((asker, other), key=lambda space: -space.maker.number)
            raise RefusedError(
                f"The gallery holds vectors of {other.name}, and {asker.name} has not been shown to be compatible with "
                f"them: run  evergallery check {newer.name} --against {older.name} --data HELD_OUT  first."
            )

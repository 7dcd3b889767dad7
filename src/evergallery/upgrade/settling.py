"""The verbs ``commit`` and ``discard``: one side of a refresh is given up for good."""

from typing import Literal

from evergallery.errors import BusyError, RefusedError
from evergallery.holdings.comparing import answers_from_refresh, require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Refresh, State
from evergallery.watching import SILENT, Watcher


def commit(holdings: Holdings, *, watcher: Watcher = SILENT) -> int:
    """Give up the earlier vectors of refreshed items for good; returns how many were deleted.

    Raises:
        RefusedError: no refresh is open, or its vectors are not shown yet.
    """
    with changing(holdings, "committing a refresh") as state:
        opened = require_shown(holdings, state)
        state.refresh = None
        state.committed.append(opened.id)
    holdings.journal.record("commit", refresh=opened.id, generation=opened.generation)
    return _settle_all(holdings, watcher)


def discard(holdings: Holdings, *, watcher: Watcher = SILENT) -> int:
    """Give up the new vectors of an open refresh; returns how many were deleted.

    Raises:
        RefusedError: no refresh is open, or the promoted generation cannot search the earlier vectors.
    """
    opened = require_open(holdings.state)
    before = stored_spaces(holdings, view=holdings.state.view().before(opened.id))
    require_compatible(holdings, Space(holdings.promoted), before)
    with changing(holdings, "discarding a refresh") as state:
        state.refresh = None
        state.discarded.append(opened.id)
    holdings.journal.record("discard", refresh=opened.id, generation=opened.generation)
    return _settle_all(holdings, watcher)


def tidy(holdings: Holdings, watcher: Watcher | None = None) -> int:
    """Delete what earlier commits and discards gave up and were killed before deleting; returns how many vectors."""
    state, watcher = holdings.state, watcher or Watcher()
    pending: list[tuple[str, Literal["new", "old"]]] = [(refresh, "new") for refresh in state.committed]
    pending += [(refresh, "old") for refresh in state.discarded]
    deleted = 0

    def settled(done: int, total: int) -> None:
        watcher.counted("settling earlier and new versions", done, total)

    for refresh, keep in pending:
        deleted += holdings.gallery.settle(refresh, keep, on_progress=settled)
        with changing(holdings, "settling a refresh") as changed:
            changed.committed = [other for other in changed.committed if other != refresh]
            changed.discarded = [other for other in changed.discarded if other != refresh]
    return deleted


def _settle_all(holdings: Holdings, watcher: Watcher) -> int:
    try:
        return tidy(holdings, watcher)
    except BusyError:
        # The state says already what is to go: whoever opens the gallery next deletes it.
        watcher.said("the gallery is in use: the vectors are hidden now and are deleted when it is next refreshed")
        return 0


def superseded(holdings: Holdings) -> int:
    """Return how many earlier vectors ``commit`` would give up.

    Raises:
        RefusedError: no refresh is open, or its vectors are not shown yet.
    """
    opened = require_shown(holdings, holdings.state)
    view = holdings.state.view()
    left = holdings.gallery.count(view=view.remaining(opened.id))
    return holdings.gallery.count(view=view.before(opened.id)) - left


def require_shown(holdings: Holdings, state: State) -> Refresh:
    """Return the open refresh, whose vectors searches see.

    Raises:
        RefusedError: no refresh is open, or its vectors are not shown yet.
    """
    opened = require_open(state)
    if not opened.shown and answers_from_refresh(holdings, state):
        raise RefusedError(
            f"Searches do not see the vectors of {opened.id} yet: show them first, with  {opened.command}  or give them up "
            f"with  evergallery refresh --discard"
        )
    if not opened.shown:
        raise RefusedError(
            f"The vectors of {opened.id} are for {opened.generation}, which is not promoted: promote it first, with  "
            f"evergallery promote {opened.generation}  or give them up with  evergallery refresh --discard"
        )
    return opened


def require_open(state: State) -> Refresh:
    """Return the open refresh.

    Raises:
        RefusedError: there is none.
    """
    if state.refresh is None:
        raise RefusedError("No refresh is open: begin one with  evergallery refresh GENERATION")
    return state.refresh

"""The preview of a generation that answers by vectors of its own, whatever the gallery holds and whoever answers now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evergallery.gallery.items import View
from evergallery.generations.generation import Generation
from evergallery.holdings.answer import CHECKED, Answer
from evergallery.holdings.state import State

CANDIDATES = 48
"""Items, found by older vectors, of which vectors are made for a search that asks for fewer results."""
SECONDS = 5.0
"""The time that such a search may spend on images."""


@dataclass(frozen=True)
class Preview:
    """A state in which a generation answers by vectors of its own.

    Attributes:
        state: that is asked in place of the present one.
        preview: whether some items have none, so that those which older vectors find are ranked by vectors made on the way.
    """

    state: State
    preview: bool


def own_vectors(state: State, maker: Generation, count: Callable[[View], Mapping[str, int]]) -> Preview:
    """The state in which a generation answers by vectors of its own; nothing is changed.

    An open refresh keeps vectors of two generations. Whichever side has more of this generation's is seen, so that those of
    the earlier one answer until they are given up, and those that wait in the shadow answer before they are shown.

    Args:
        state: of the workspace.
        maker: the generation.
        count: items by fingerprint in a view.
    """
    asked = state.model_copy(deep=True)
    if state.refresh is not None:
        sides = [
            state.refresh.model_copy(update={"shown": shown})
            for shown in (state.refresh.shown, not state.refresh.shown)
        ]
        views = [state.model_copy(update={"refresh": side}).view() for side in sides]
        held = [count(view).get(maker.fingerprint, 0) for view in views]
        asked.refresh = sides[held.index(max(held))]
    there = count(asked.view())
    preview = there.get(maker.fingerprint, 0) < sum(there.values())
    asked.promoted = maker.name
    asked.answer = Answer(way="rescore", candidates=CANDIDATES, seconds=SECONDS) if preview else CHECKED
    return Preview(asked, preview)

"""Questions to the gallery, and its answers, while a server puts questions together."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.searching.rescoring import RescoreCounts
from evergallery.serving import schemas
from evergallery.serving.blending import Vector

QUERY = {"vector", "seen_by", "item", "uri", "text", "more", "less", "generation"}
"""The query of a search, among the options that it may share with others."""


@dataclass(frozen=True)
class Question:
    """A search in the gallery; those of equal ``key`` are answered together.

    Attributes:
        vector: (D,) the query's.
        seen: the query as other generations see it, by fingerprint.
        asker: the space of the query.
        state: that it is answered from.
        options: of the search.
        without: ids of items that are left out.
    """

    vector: Vector
    seen: Mapping[str, Vector]
    asker: Space
    state: State
    options: schemas.SearchOptions
    without: frozenset[str]

    @property
    def rescoring(self) -> bool:
        """Return whether candidates may be scored again: not where another generation than the promoted one is asked for."""
        return self.options.generation in (None, self.state.promoted)

    @property
    def key(self) -> Hashable:
        """Return what searches must share: the very state, who looked at the query, options, and how many items are left out."""
        looked = self.asker.name, *sorted(self.seen)
        told = self.options.model_dump_json(exclude=QUERY)
        return id(self.state), looked, self.rescoring, told, len(self.without)


@dataclass(frozen=True)
class SearchAnswer:
    """The results of a search.

    Attributes:
        asker: the space of the query.
        state: that it was answered from.
        results: the best first.
        searched: vectors that were searched, by the name of their space.
        exact: whether nothing can have been missed.
        rescored: what scoring again came to, where it was done.
        present: probability that something like the query is there, where it is known.
        preview: whether vectors were searched that are not shown yet.
        promoted: the generation that answers, but for the canary's clients.
        canary: that answered, if one did.
    """

    asker: Space
    state: State
    results: list[schemas.Result]
    searched: dict[str, int]
    exact: bool
    rescored: RescoreCounts | None
    present: float | None
    preview: bool = False
    promoted: str | None = None
    canary: str | None = None

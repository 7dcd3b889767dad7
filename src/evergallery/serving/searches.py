"""Searches: by a picture, a vector or a stored item. Each is of one state of the workspace from beginning to end.

Who answers, which vectors are shown and what may be compared are read once, so that a promotion in the middle of a request
changes nothing of it. The server's loop only waits: pictures are decoded in threads, the model looks at those that came
together in one batch, and the gallery is asked together for what was searched for together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import EvergalleryError, InputError, NotFoundError, RefusedError
from evergallery.extraction.images import find_images
from evergallery.gallery.items import Item
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import space_names, space_of
from evergallery.holdings.embedding import embed_pixels, embed_words
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.network.runtimes import at_once
from evergallery.searching.looking import look_at_stored, onlookers, seen_by
from evergallery.searching.previewing import own_vectors
from evergallery.searching.rescoring import RescoreCounts
from evergallery.searching.routes import Criteria, Queries, Result
from evergallery.searching.searching import answer_vectors, answering, words_only
from evergallery.serving import schemas
from evergallery.serving.batching import Batcher, BatchLimits
from evergallery.serving.blending import Look, Query, Vector, blended, unit
from evergallery.serving.canary import Canary
from evergallery.serving.counts import Counts
from evergallery.serving.describing import described, filter_of, item_at, name_of, stored_item
from evergallery.serving.drift import Drift
from evergallery.serving.failures import OverloadedError
from evergallery.serving.limits import Limits
from evergallery.serving.metrics import Metrics
from evergallery.serving.pictures import Pictures
from evergallery.serving.questions import Question, SearchAnswer
from evergallery.serving.shadow import Shadow
from evergallery.serving.threads import Threads

Image = NDArray[np.uint8]

SEARCHES_AT_ONCE = 2
"""In the gallery, whose engine does not hold Python's lock; each of them may answer several questions."""
TRIES = 3


Ask = Callable[[State, bool], Awaitable[SearchAnswer]]
"""A search in a state, which may be the canary's."""
Options = TypeVar("Options", bound=schemas.SearchOptions)


class Searches:
    """Answers searches in a workspace.

    Args:
        holdings: of the workspace, with its gallery open.
        pictures: opens those that are searched with.
        threads: where everything is done that takes time.
        limits: of the time, and of how many may wait.
        metrics: hear how long each step took.
    """

    def __init__(
        self, holdings: Holdings, pictures: Pictures, threads: Threads, limits: Limits, metrics: Metrics
    ) -> None:
        self._holdings = holdings
        self._pictures = pictures
        self.threads = threads
        self._limits = limits
        self._metrics = metrics
        self._model = ThreadPoolExecutor(1, thread_name_prefix="evergallery-model")
        self._embedding: Batcher[str, Image, Vector] = Batcher(
            self._embed_now, self._model, BatchLimits(limits.together, limits.waiting), metrics.batched
        )
        self._searching: Batcher[Hashable, Question, SearchAnswer] = Batcher(
            self._search_now,
            threads.pool,
            BatchLimits(limits.together, limits.waiting + limits.batch, SEARCHES_AT_ONCE),
        )
        self.counts = Counts(holdings.gallery)
        self.shadow: Shadow | None = None
        self.canary: Canary | None = None
        self.drift: Drift | None = None

    def close(self) -> None:
        """Let the model finish what it looks at."""
        self._model.shutdown()

    def load(self, generation: Generation) -> None:
        """Have a generation's model in memory, and let it look at a first image, which takes longer than all others.

        Ours looks at several as well, for which another runtime may be the fastest.
        """
        if not generation.extracts:
            return
        preprocessing = generation.preprocessing
        for count in {1, at_once(preprocessing.size)} if generation.can_be_parent else {1}:
            embed_pixels(self._holdings, np.zeros((count, *preprocessing.shape, 3), np.uint8), generation)

    async def by_stored(
        self, body: schemas.Search, state: State | None = None, *, drawn: bool = False
    ) -> schemas.Answer:
        """Search with a vector or a stored item.

        Args:
            body: what is searched for.
            state: to answer from; that of now by default.
            drawn: whether the client is the canary's, which answers where no generation is named, and neither a vector of one nor
                words are given.
        """

        async def ask(state: State, is_canary: bool) -> SearchAnswer:
            return await self._stored(self._as_meant(body, state) if is_canary else body, state)

        return await self._answered(ask, body, state, drawn=drawn and body.vector is None and body.text is None)

    async def by_pictures(
        self, pictures: Sequence[bytes], options: schemas.SearchOptions, *, drawn: bool = False
    ) -> schemas.Answer:
        """Search with pictures, which are not kept: with all of them as one query; by the canary where the client is its own."""
        seen: list[tuple[Generation, Vector]] = []

        async def ask(state: State, is_canary: bool) -> SearchAnswer:
            asker = Space(answering(self._holdings, options.generation, state))
            looked = await asyncio.gather(*(self._looked(data, asker.maker) for data in pictures))
            seen.append((asker.maker, looked[0].vector))
            meant = self._as_meant(options, state) if is_canary else options
            return await self._search_like(looked, asker, meant, state)

        answer = await self._answered(ask, options, None, drawn=drawn)
        if answer.canary is not None or len(pictures) > 1:
            return answer
        if self.drift is not None and answer.results and _is_plain(options):
            maker, vector = seen[-1]
            self.drift.observe(maker, answer.way, vector, answer.results[0].score)
        if self.shadow is not None:
            self.shadow.offer(pictures[0], options, answer)
        return answer

    async def as_if(self, data: bytes, options: schemas.SearchOptions, state: State) -> Sequence[Result]:
        """Return what a search by picture would find in another state than the workspace's; nothing is noted of it."""
        maker = answering(self._holdings, None, state)
        query = await self._looked(data, maker)
        seen = await self._seen(query, Space(maker), options, state)

        def search() -> Sequence[Result]:
            where = filter_of(self._holdings, options.labels, options.generations, options.metadata)
            queries = Queries(query.vector[None], {name: other[None] for name, other in seen.items()})
            criteria = Criteria(options.k, where, exact=options.exact, rescoring=False)
            return answer_vectors(self._holdings, Space(maker), queries, criteria, state).results[0]

        return await self.threads.run(search)

    async def _looked(self, data: bytes, maker: Generation) -> Query:
        """A picture as a generation sees it, and what tells how others do."""

        async def look(other: Generation) -> Vector | None:
            if not other.extracts:
                return None
            return await self.embed(await self.threads.decode(self._prepared, data, other), other)

        return Query(await self.embed(await self.threads.decode(self._prepared, data, maker), maker), look)

    async def embed(self, image: Image, maker: Generation) -> Vector:
        """The embedding (D,) of an image (S, S, 3) by a generation, looked at together with others that wait."""
        with self._metrics.timing("embed"):
            return await self._embedding.ask(maker.name, image)

    async def _stored(self, body: schemas.Search, state: State) -> SearchAnswer:
        if body.vector is not None:
            given = {self._holdings.generation(name).fingerprint: unit(rows) for name, rows in body.seen_by.items()}

            async def look_up(other: Generation) -> Vector | None:
                return given.get(other.fingerprint)

            asker = Space(answering(self._holdings, body.generation, state))
            return await self._search_like([Query(unit(body.vector), look_up)], asker, body, state)
        if body.text is not None:
            return await self._by_words(body.text, body, state)
        item = await self.threads.run(self._item, body, state)
        asker, vector = space_of(self._holdings, item.generation), item.embedding
        if body.generation is not None and body.generation != asker.name:
            asker = Space(self._holdings.generation(body.generation))
            vector = await self._embed_stored(item, asker.maker)

        return await self._search_like([Query(vector, self._looking(item, state))], asker, body, state, {item.id})

    async def _by_words(self, words: str, options: schemas.SearchOptions, state: State) -> SearchAnswer:
        """Search in vectors of the generation whose text tower has seen the words; what pictures are measured by is not told."""
        maker = answering(self._holdings, options.generation, state)
        words_only(maker, Criteria(minimum_probability=options.min_probability))
        vector = await asyncio.wrap_future(self._model.submit(embed_words, self._holdings, words, maker))
        asked = options.model_copy(update={"generation": maker.name, "generations": [maker.name]})

        async def look(_: Generation) -> Vector | None:
            return None

        found = await self._search_like([Query(vector, look)], Space(maker), asked, state)
        told = [result.model_copy(update={"probability": None}) for result in found.results]
        return replace(found, results=told, present=None)

    def _looking(self, item: Item, state: State) -> Look:
        async def look(other: Generation) -> Vector | None:
            return await self.threads.run(look_at_stored, self._holdings, item, state, other)

        return look

    async def _search_like(
        self,
        queries: Sequence[Query],
        asker: Space,
        options: schemas.SearchOptions,
        state: State,
        without: Collection[str] = (),
    ) -> SearchAnswer:
        """Search with one query of several, and of stored items that results should be like, or not like."""
        if not options.more and not options.less and len(queries) == 1:
            return await self._search(queries[0], asker, options, state, frozenset(without))
        names = [*options.more, *options.less]
        items = await self.threads.run(lambda: [stored_item(self._holdings, name, state.view()) for name in names])
        vectors = await asyncio.gather(*(self._as_seen_by(asker, item, state) for item in items))
        stored = [Query(vector, self._looking(item, state)) for vector, item in zip(vectors, items, strict=True)]
        count = len(options.more)
        query = blended([*queries, *stored[:count]], stored[count:])
        return await self._search(query, asker, options, state, frozenset({*without, *names}))

    async def _as_seen_by(self, asker: Space, item: Item, state: State) -> Vector:
        """The vector of a stored item in the space of the query."""
        if item.generation == asker.fingerprint:
            return item.embedding
        found = None if asker.adapter else await self._looking(item, state)(asker.maker)
        if found is None:
            raise NotFoundError(f"{asker.name} cannot look at {item.id!r}: leave it out of the query.")
        return found

    async def _embed_stored(self, item: Item, maker: Generation) -> Vector:
        """The embedding of a stored item's picture by another generation than the one that made its vector."""
        found = await self.threads.decode(find_images, [item], maker.preprocessing, self._holdings.roots)
        if found.problems:
            raise NotFoundError(f"{maker.name} cannot look at {item.id!r}: {found.problems[0].reason}.")
        return await self.embed(found.images.pixels[0], maker)

    async def _search(
        self,
        query: Query,
        asker: Space,
        options: schemas.SearchOptions,
        state: State,
        without: frozenset[str] = frozenset(),
    ) -> SearchAnswer:
        # Before it joins others, which would fail with it.
        asker.require_width(query.vector[None])
        seen = await self._seen(query, asker, options, state)
        asked = Question(query.vector, seen, asker, state, options, without)
        with self._metrics.timing("search"):
            return await self._searching.ask(asked.key, asked)

    async def _seen(
        self, query: Query, asker: Space, options: schemas.SearchOptions, state: State
    ) -> dict[str, Vector]:
        """The query as other generations see it, by fingerprint, where queries are answered so."""
        if not state.answer.looks_twice:
            return {}

        def follows() -> tuple[list[Generation], dict[str, Vector]]:
            where = filter_of(self._holdings, options.labels, options.generations, options.metadata)
            others = onlookers(self._holdings, asker, state, where)
            return others, seen_by(self._holdings, query.vector, asker, others, lambda _: None)

        others, seen = await self.threads.run(follows)
        left = [other for other in others if other.fingerprint not in seen]
        for other, found in zip(left, await asyncio.gather(*map(query.look, left)), strict=True):
            if found is not None:
                Space(other).require_width(found[None])
                seen[other.fingerprint] = found
        return seen

    async def _answered(
        self, ask: Ask, options: schemas.SearchOptions, state: State | None, *, drawn: bool
    ) -> schemas.Answer:
        began = time.perf_counter()
        drawn = drawn and options.generation is None and options.vectors != "own"
        own = partial(self._by_its_own, ask, options.generation)
        with self._metrics.timing("total"):
            try:
                async with asyncio.timeout(self._limits.answer_seconds):
                    found = await self._of_one_state(own if options.vectors == "own" else ask, state, drawn=drawn)
            except EvergalleryError:
                self._metrics.unanswered_by(self._who(drawn))
                raise
            except TimeoutError:
                self._metrics.unanswered_by(self._who(drawn))
                raise OverloadedError(
                    f"The search took more than {self._limits.answer_seconds:g} seconds: try again in a moment."
                ) from None
        seconds = time.perf_counter() - began
        if found.canary is not None and self.canary is not None:
            self.canary.answered()
        self._metrics.answered_by(found.canary or options.generation or found.promoted or found.asker.name, seconds)
        if found.results:
            space = found.results[0].item.generation
            self._metrics.scored(found.asker.name, space, [result.score for result in found.results[:2]])
        return schemas.Answer(
            generation=found.asker.name,
            promoted=found.promoted,
            canary=found.canary,
            results=found.results,
            milliseconds=round(1000 * seconds, 3),
            exact=found.exact,
            searched=found.searched,
            way="own" if options.vectors == "own" else found.state.answer.way,
            preview=found.preview,
            present=found.present,
            rescored=None if found.rescored is None else schemas.RescoreCounts(**vars(found.rescored)),
        )

    async def _by_its_own(self, ask: Ask, generation: str | None, state: State, _: bool) -> SearchAnswer:
        """Return what is found by vectors of the generation that asks, made on the way where they are missing."""
        maker = answering(self._holdings, generation, state)
        # Counted anew: what a moment ago was whole may have been given up by a commit.
        count = self._holdings.gallery.count_by_generation
        own = await self.threads.run(own_vectors, state, maker, lambda view: count(view=view))
        return replace(await ask(own.state, False), state=state, preview=own.preview)

    async def _of_one_state(self, ask: Ask, state: State | None, *, drawn: bool) -> SearchAnswer:
        """Return what ``ask`` finds in one state; asked again where vectors that the state shows were given up meanwhile."""
        for _ in range(TRIES - 1):
            asked = state or self._holdings.state
            try:
                found = await self._asked(ask, asked, drawn)
            except RefusedError:
                # A query that is a stored vector may be of a generation that is gone by now.
                if not asked.may_miss(self._holdings.state):
                    raise
            else:
                if not asked.may_miss(self._holdings.state):
                    return found
            state = None
        return await self._asked(ask, self._holdings.state, drawn)

    async def _asked(self, ask: Ask, state: State, drawn: bool) -> SearchAnswer:
        """Return what ``ask`` finds in a state, or as the canary sees it."""
        canary = self.canary if drawn else None
        seen = None if canary is None else await self.threads.run(canary.seen_from, state)
        found = await ask(seen or state, seen is not None)
        return replace(found, promoted=state.promoted, canary=None if seen is None else seen.promoted)

    def _who(self, drawn: bool) -> str:
        """The name of the generation that answers a client."""
        if drawn and self.canary is not None and self.canary.answers:
            return self.canary.generation
        return self._holdings.state.promoted or "none"

    def _as_meant(self, options: Options, state: State) -> Options:
        """Return what a client means who does not know of the canary: a smallest score is one of the promoted generation's.

        It is translated where a check has measured both scales, and otherwise stays the number that it is.
        """
        known = state.last_promotion.get("before")
        if options.min_score is None or options.min_score_of is not None or known is None or state.promoted is None:
            return options
        prints = [self._holdings.generation(name).fingerprint for name in (known, state.promoted)]
        if any(state.scale(space, space, None) is None for space in prints):
            return options
        return options.model_copy(update={"min_score_of": known})

    # In threads

    def _prepared(self, data: bytes, maker: Generation) -> Image:
        with self._metrics.timing("decode"):
            try:
                return self._pictures.pixels(data, maker.preprocessing)
            except InputError as error:
                raise InputError(f"The picture cannot be searched with: {error}") from error

    def _embed_now(self, name: str, images: Sequence[Image]) -> list[Vector]:
        return list(embed_pixels(self._holdings, np.stack(images), self._holdings.generation(name)))

    def _item(self, body: schemas.Search, state: State) -> Item:
        if body.item is not None:
            return stored_item(self._holdings, body.item, state.view())
        assert body.uri is not None, "the schema lets exactly one kind of query in"
        return item_at(self._holdings, body.uri, state.view())

    def _search_now(self, _: Hashable, together: Sequence[Question]) -> list[SearchAnswer]:
        first = together[0]
        options, asker, state = first.options, first.asker, first.state
        where = filter_of(self._holdings, options.labels, options.generations, options.metadata)
        criteria = Criteria(
            options.k + len(first.without),
            where,
            minimum_score=options.min_score,
            minimum_probability=options.min_probability,
            score_of=options.min_score_of,
            exact=options.exact,
            rescoring=first.rescoring,
        )
        queries = Queries(
            np.stack([asked.vector for asked in together]),
            {name: np.stack([asked.seen[name] for asked in together]) for name in first.seen},
        )
        found = answer_vectors(self._holdings, asker, queries, criteria, state)
        rescored: Sequence[RescoreCounts | None] = found.rescored or [None] * len(together)
        for how in rescored:
            if how is not None:
                self._metrics.rescored({name: getattr(how, name) for name in ("kept", "embedded", "gone", "late")})
        if any(how is not None and how.embedded for how in rescored):
            self.counts.forget()
        counts = self.counts.of(state.view())
        searched = [space for space in counts if not where.generations or space in where.generations]
        names = space_names(self._holdings)
        told = {name_of(names, space): counts[space] for space in searched}
        exact = self._holdings.gallery.is_exact(options.exact, where, view=state.view())
        return [
            SearchAnswer(asker, state, self._told(kept), told, exact, how, kept[0].present if kept else None)
            for kept, how in zip(map(_kept, found.results, together), rescored, strict=True)
        ]

    def _told(self, kept: Sequence[Result]) -> list[schemas.Result]:
        self._holdings.notes.found(result.item.id for result in kept)
        items = described(self._holdings, [result.item for result in kept])
        return [
            schemas.Result(item=item, score=result.score, probability=result.probability)
            for item, result in zip(items, kept, strict=True)
        ]


def _is_plain(options: schemas.SearchOptions) -> bool:
    """Return whether a search goes to everything, by whoever answers."""
    return not options.model_dump(exclude={"k", "exact"}, exclude_defaults=True)


def _kept(results: Sequence[Result], asked: Question) -> list[Result]:
    return [result for result in results if result.item.id not in asked.without][: asked.options.k]

"""The verbs ``adopt`` and ``release``: a collection that somebody else keeps is the gallery, for as long as one likes."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.exchange.known import known_generation, next_generation
from evergallery.files import lock
from evergallery.gallery.adopted import Adoptable, AdoptedCollection, Changes, Rows
from evergallery.gallery.items import Item
from evergallery.gallery.opening import look_at, open_store
from evergallery.gallery.places import is_url
from evergallery.generations.card import MethodCard
from evergallery.generations.generation import Generation
from evergallery.generations.identity import vectors_fingerprint
from evergallery.generations.writing import write_vector_space
from evergallery.holdings.comparing import may_stand_together, space_names, space_of
from evergallery.holdings.holdings import HELD, Holdings, changing, promote_first
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Space
from evergallery.strings.redaction import redacted
from evergallery.watching import SILENT, Watcher

if TYPE_CHECKING:
    from evergallery.extraction.extraction import ItemAnswer

BATCH = 256
GALLERY = "gallery"
"""The place of a workspace's own gallery after it has let go of a collection: in its directory, and empty."""


@dataclass(frozen=True)
class Adoption:
    """The result of ``adopt``.

    Attributes:
        collection: that is read where it is, in words.
        store: URL of the gallery over it.
        generation: name of the one that made its vectors.
        is_new: whether that was made for them.
        rows: of the collection that have a vector which can be used.
        added: that were not known before.
        changed: that say something else of themselves than before, or have another vector.
        gone: that were known, and are no longer there or cannot be used.
        dropped: newer vectors that were given up, since their rows are gone or have another picture.
        unusable: rows that cannot be used, by the reason.
        caught_up: rows that came or changed, and got a vector by the generation that answers.
        waiting: rows that no search finds, because they have no vector that the generation which answers may search.
        problems: of those.
        copied: bytes of vectors that had to be copied to be searched: those of a file.
    """

    collection: str
    store: str
    generation: str
    is_new: bool
    rows: int
    added: Rows
    changed: Rows
    gone: Rows
    dropped: int
    unusable: Mapping[str, Rows] = field(default_factory=dict)
    caught_up: int = 0
    waiting: int = 0
    problems: tuple[Problem, ...] = ()
    copied: int = 0


@dataclass(frozen=True)
class Release:
    """The result of ``release``.

    Attributes:
        collection: that is as it was; ``None`` where its gallery was gone already.
        vectors: of newer generations that were given up.
    """

    collection: str | None
    vectors: int


def adopt(
    holdings: Holdings,
    place: str | Path | None = None,
    *,
    into: str | None = None,
    ids: str | Path | None = None,
    watcher: Watcher = SILENT,
) -> Adoption:
    """Let a collection that somebody else keeps be the gallery; or take up what has changed in it since.

    It is read where it is, and never written. What we add lies beside it: newer vectors, and a note of each row, by which rows
    that come, go or change are known; ``release`` takes it away. The same call again takes up what has changed, and goes on
    where it was interrupted.

    Args:
        place: the URL of a collection, see docs/adopt.md, or a file of vectors, whose vectors are copied to be searched; left
            out for the one that is adopted already.
        into: the generation that made its vectors; by default a generation without a model is made.
        ids: a text file with an id on each line, for a file of arrays or of FAISS.
        watcher: hears of progress.

    Raises:
        InputError: the URL or the file cannot be used, the collection has no such columns, or the dimension is not the
            generation's.
        NotFoundError: the collection is not there, or its server does not answer.
        RefusedError: the gallery holds items, or another workspace has adopted the collection in the same place.
    """
    found = None if place is None else look_at(str(place), holdings.directory, ids)
    if found is not None and found.place != holdings.state.store:
        maker, is_new, changes = _take(holdings, found, into, watcher)
        gallery = adopted(holdings)
    else:
        gallery, is_new = adopted(holdings), False
        if found is not None and found.described != gallery.described:
            raise RefusedError(
                f"What is adopted is {gallery.collection}, or other columns of it: let go of it first, with  evergallery release"
            )
        maker = _maker(holdings, gallery, into)
        changes = _reconcile(holdings, gallery, watcher)
    caught_up, problems = _catch_up(holdings, gallery, watcher)
    adoption = Adoption(
        collection=gallery.collection,
        store=holdings.state.store,
        generation=maker.name,
        is_new=is_new,
        rows=changes.rows,
        added=changes.added,
        changed=changes.changed,
        gone=changes.gone,
        dropped=changes.dropped,
        unusable=changes.unusable,
        caught_up=caught_up,
        waiting=len(problems),
        problems=tuple(problems),
        copied=gallery.copied,
    )
    _record(holdings, adoption)
    return adoption


def release(holdings: Holdings, *, force: bool = False) -> Release:
    """Let go of the collection that was adopted: what was added beside it goes, and it stays as it is.

    The workspace keeps its generations, and its gallery is empty.

    Args:
        force: even where vectors of newer generations are given up with it.

    Raises:
        RefusedError: nothing is adopted, or vectors of newer generations would be given up.
    """
    store, collection, vectors = holdings.state.store, None, 0
    gallery: AdoptedCollection | None = None
    # After an interruption it may be gone already.
    with suppress(NotFoundError):
        gallery = adopted(holdings)
    if gallery is not None:
        collection, newer = gallery.collection, gallery.newer()
        vectors = sum(newer.values())
        if newer and not force:
            most = max(newer, key=lambda space: newer[space])
            name = space_names(holdings).get(most, most[:12])
            raise RefusedError(
                f"{newer[most]} vectors of {name} would be given up: keep them with  evergallery export {name}.parquet "
                f"--generation {name}  and then repeat with --force"
            )
        gallery.release()
    with changing(holdings, "releasing a collection") as state:
        state.store, state.refresh, state.committed, state.discarded = GALLERY, None, [], []
    (holdings.directory / HELD).unlink(missing_ok=True)
    holdings.journal.record("release", gallery=store, vectors=vectors)
    # Nothing of it is counted: it is closed, or gone.
    holdings.__dict__.pop("gallery", None)
    return Release(collection, vectors)


def adopted(holdings: Holdings) -> AdoptedCollection:
    """The gallery, where it is over a collection of somebody else's.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(holdings.gallery, AdoptedCollection):
        raise RefusedError(
            f"The gallery of {holdings.directory} is its own, and no collection is adopted: name one, as in  evergallery adopt "
            f"'postgresql://localhost/shop?table=items'"
        )
    return holdings.gallery


def _record(holdings: Holdings, adoption: Adoption) -> None:
    holdings.journal.record(
        "adopt",
        gallery=adoption.store,
        generation=adoption.generation,
        added=adoption.added.count,
        changed=adoption.changed.count,
        gone=adoption.gone.count,
        dropped=adoption.dropped,
        caught_up=adoption.caught_up,
        waiting=adoption.waiting,
    )


def _take(holdings: Holdings, found: Adoptable, into: str | None, watcher: Watcher) -> tuple[Generation, bool, Changes]:
    """Make what is needed beside a collection, note its rows, and let it be the gallery once all are noted."""
    with lock(holdings.directory / "generations" / ".lock", "adopt"):
        if holdings.gallery.count():
            raise RefusedError(
                f"The gallery of {holdings.directory} holds items: adopt {found.collection} in a workspace of its own, made "
                f"with  evergallery init DIRECTORY"
            )
        holdings.close()
        maker, is_new = _generation_of(holdings, found, into)
        found.make(maker.fingerprint, f"{holdings.directory.resolve()} on {platform.node()}")
        where = found.place if is_url(found.place) else holdings.directory / found.place
        with closing(open_store(where, create=False)) as gallery:
            assert isinstance(gallery, AdoptedCollection), "it was made over a collection a moment ago"
            changes = gallery.reconcile(watcher)
        with changing(holdings, "adopting a collection") as state:
            state.store = found.place
        (holdings.directory / HELD).unlink(missing_ok=True)
        promote_first(holdings, maker)
    return maker, is_new, changes


def _reconcile(holdings: Holdings, gallery: AdoptedCollection, watcher: Watcher) -> Changes:
    """Take up what has changed; what the generation that answers may not search waits until it has a vector that it may."""
    state, own = holdings.state, space_of(holdings, gallery.generation)
    if may_stand_together(state, Space(holdings.promoted), own):
        return gallery.reconcile(watcher)
    if state.refresh and state.refresh.shown:
        return gallery.reconcile(watcher, behind=state.refresh.id)
    return gallery.reconcile(watcher, hidden=True)


def _generation_of(holdings: Holdings, found: Adoptable, into: str | None) -> tuple[Generation, bool]:
    """The generation that made the vectors of a collection, and whether it was made for them."""
    if into is not None:
        maker = holdings.generation(into)
        if maker.card.dimension != found.dimension:
            raise InputError(
                f"{found.collection} has vectors of {found.dimension} dimensions and {into} makes vectors of "
                f"{maker.card.dimension}: name the generation that made them with --into."
            )
        return maker, False
    known = known_generation(holdings, vectors_fingerprint(found.space, found.dimension))
    if known:
        return known, False
    if holdings.state.promoted is not None:
        raise RefusedError(
            f"Queries are answered by {holdings.state.promoted}, and nothing says that it made the vectors of "
            f"{found.collection}: say so with  --into {holdings.state.promoted}  or adopt them first, in a new workspace, and "
            f"register the model there as a newer generation."
        )
    name, place = next_generation(holdings)
    method = MethodCard(name="adopt", parameters={"collection": redacted(found.collection)})
    made = write_vector_space(place, name=name, dimension=found.dimension, content=found.space, method=method)
    return made, True


def _maker(holdings: Holdings, gallery: AdoptedCollection, into: str | None) -> Generation:
    """The generation that made the vectors of the collection which is adopted already."""
    maker = space_of(holdings, gallery.generation).maker
    if into not in (None, maker.name):
        raise RefusedError(
            f"The vectors are adopted as those of {maker.name}: to name {into} instead, let go of them first, with  "
            f"evergallery release"
        )
    return maker


def _catch_up(holdings: Holdings, gallery: AdoptedCollection, watcher: Watcher) -> tuple[int, list[Problem]]:
    """Give items that wait a vector by the generation that answers; returns how many got one, and why others did not."""
    items = [item for batch in gallery.waiting() for item in batch]
    if not items:
        return 0, []
    from evergallery.extraction.opening import extracting
    from evergallery.upgrade.renewal import mapped, maps_into, roots_for

    opened = holdings.state.refresh
    target = space_of(holdings, opened.fingerprint) if opened and opened.shown else Space(holdings.promoted)
    batches = (items[start : start + BATCH] for start in range(0, len(items), BATCH))
    maps = maps_into(holdings, target)
    caught_up, problems = 0, list[Problem]()
    with ExitStack() as stack:
        if gallery.generation in maps:
            answers: Iterator[tuple[Sequence[Item], list[ItemAnswer]]] = mapped(batches, maps)
        elif target.adapter is not None or not target.maker.extracts:
            return 0, [Problem(item.id, "failed", f"{target.name} looks at no image") for item in items]
        else:
            extraction = stack.enter_context(extracting(holdings, target.maker))
            roots = roots_for(holdings, items, None, watcher)
            answers = stack.enter_context(closing(extraction.renew(batches, len(items), None, roots)))
        for batch, made in answers:
            new = [
                replace(item, embedding=answer, generation=target.fingerprint)
                for item, answer in zip(batch, made, strict=True)
                if not isinstance(answer, Problem)
            ]
            gallery.end_waiting(new)
            caught_up += len(new)
            problems += [answer for answer in made if isinstance(answer, Problem)]
            watcher.counted(f"looking at new rows with {target.name}", caught_up + len(problems), len(items))
    return caught_up, problems

"""Vectors that other systems have made become items, and items tables again."""

import time as clock
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evergallery.data.images import UnreadableImage
from evergallery.data.vectors import VectorBatch, VectorTable, open_vectors, write_vectors
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.exchange.known import known_generation, next_generation
from evergallery.files import lock
from evergallery.gallery.items import Filter, Item, LabelConflict, PutCounts
from evergallery.gallery.store import GalleryStore
from evergallery.generations.card import MethodCard
from evergallery.generations.generation import Generation
from evergallery.generations.identity import vectors_fingerprint
from evergallery.generations.writing import write_vector_space
from evergallery.holdings.comparing import require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings, promote_first
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import now
from evergallery.indexing.copies import at_known_addresses
from evergallery.strings.redaction import redacted
from evergallery.upgrade.kept_evidence import forget
from evergallery.upgrade.refreshing import open_refresh
from evergallery.watching import SILENT, Watcher

BATCH = 1000
REFRESHED_AT_ONCE = 256


@dataclass(frozen=True)
class VectorImport:
    """The result of ``import_vectors``.

    Attributes:
        generation: name of the one that the vectors belong to.
        is_new: whether it was made for them.
        added: items.
        replaced: items of the same id that said something else.
        unchanged: items that were there already.
        conflicts: items that have another label than the table says, and keep it; the first 100.
        conflict_count: how many those are in all.
        normalised: vectors that were not of unit length, and are now.
        skipped: bad rows.
        seconds: without the check of the table.
        bytes: of the vectors, which the gallery has now in float32 whatever the table keeps; the table is as it was.
    """

    generation: str
    is_new: bool
    added: int
    replaced: int
    unchanged: int
    normalised: int
    skipped: tuple[UnreadableImage, ...]
    seconds: float
    conflicts: tuple[LabelConflict, ...] = ()
    conflict_count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class VectorExport:
    """The result of ``export_vectors``.

    Attributes:
        generation: whose vectors were written.
        items: how many.
        files: that were written.
    """

    generation: str
    items: int
    files: tuple[Path, ...]


def import_vectors(
    holdings: Holdings,
    path: str | Path,
    *,
    into: str | None = None,
    ids: str | Path | None = None,
    skip_bad: bool = False,
    refresh: bool = False,
    relabel: bool = False,
    watcher: Watcher = SILENT,
) -> VectorImport:
    """Keep vectors made elsewhere in the gallery; what is there already is left as it is.

    What is known of an item stays where the table says nothing of it, and its label even where the table says another one.
    The whole table is checked before the first vector is kept; see ``evergallery.data.vectors.open_vectors``.

    Args:
        path: an ``.npz``, ``.npy``, Parquet or FAISS file, or a directory of LanceDB; it is only read.
        into: the generation that made them. By default the one that the file names, where it was exported from this
            workspace; else a generation of vectors only, which the same table finds again.
        ids: a text file with an id on each line, for ``.npy`` and FAISS.
        skip_bad: leave out bad rows instead of refusing the table.
        refresh: the rows are new vectors of stored items, by their ids: they wait beside the earlier ones, as those of
            ``refresh`` do, until their generation is promoted. Rows of no stored item are left out. Where the generation has
            vectors only, checks of it that were made before are taken back: check it when all of them are there.
        relabel: a label, or the address of the same picture, takes the place of another one that is known.
        watcher: hears of progress.

    Raises:
        InputError: the table is damaged or has a bad row, or vectors of another dimension than the generation's.
        RefusedError: the gallery holds vectors of a space that has not been shown compatible with it.
    """
    if not refresh:
        holdings.gallery.refuse_items()
    table = open_vectors(path, ids=ids, skip_bad=skip_bad)
    with lock(holdings.directory / "generations" / ".lock", "import"):
        maker, is_new = _generation_of(holdings, table, into, refresh=refresh)
        if not refresh:
            require_compatible(holdings, Space(maker), stored_spaces(holdings))
        promote_first(holdings, maker)
    if refresh:
        return _refresh_from_table(holdings, table, maker, is_new, watcher)
    started = clock.perf_counter()
    counts = _put_table(holdings.gallery, table, maker, watcher, relabel=relabel)
    holdings.journal.record(
        "import",
        generation=maker.name,
        file=str(path),
        added=counts.added,
        replaced=counts.replaced,
        unchanged=counts.unchanged,
        conflicts=counts.conflict_count,
    )
    return _result(maker, is_new, table, counts, clock.perf_counter() - started)


def _result(maker: Generation, is_new: bool, table: VectorTable, counts: PutCounts, seconds: float) -> VectorImport:
    """The result of an import; ``is_new`` where the generation was made for the table."""
    return VectorImport(
        generation=maker.name,
        is_new=is_new,
        added=counts.added,
        replaced=counts.replaced,
        unchanged=counts.unchanged,
        normalised=table.normalised,
        skipped=table.skipped,
        seconds=seconds,
        conflicts=counts.conflicts,
        conflict_count=counts.conflict_count,
        bytes=4 * table.rows * table.dimension,
    )


def export_vectors(
    holdings: Holdings, path: str | Path, *, generation: str | None = None, watcher: Watcher = SILENT
) -> VectorExport:
    """Write the stored vectors of a generation to a table that ``import_vectors`` reads.

    Args:
        path: ``.npz``, ``.parquet``, or ``.npy``, which keeps ids in a file beside it and leaves out the rest.
        generation: whose vectors; may be left out where the gallery holds those of one only.
        watcher: hears of progress.

    Raises:
        NotFoundError: the gallery holds none.
        InputError: it holds those of several generations and none is named, or the file cannot be written.
    """
    makers = [holdings.generation(generation)] if generation else [space.maker for space in stored_spaces(holdings)]
    return _write_table(holdings.gallery, makers, Path(path), watcher)


def _generation_of(
    holdings: Holdings, table: VectorTable, into: str | None, *, refresh: bool
) -> tuple[Generation, bool]:
    """The generation that a table's vectors belong to, and whether it was made for them.

    Args:
        holdings: what there is.
        table: the vectors.
        into: name of the generation that the user named, if any.
        refresh: whether the vectors are of stored items, beside theirs.

    Raises:
        InputError: another dimension than that of ``into``.
        RefusedError: the space is new, and the gallery holds vectors that it cannot be compared with.
    """
    if into is not None:
        maker = holdings.generation(into)
        if table.dimension != maker.card.dimension:
            raise InputError(
                f"{table.path} has vectors of {table.dimension} dimensions and {maker.name} makes vectors of "
                f"{maker.card.dimension}: name the generation that made them with --into."
            )
        return maker, False
    fingerprint = vectors_fingerprint(table.content, table.dimension)
    known = known_generation(holdings, table.space) if table.space else None
    known = known or known_generation(holdings, fingerprint)
    if known:
        return known, False
    if stored_spaces(holdings) and not refresh:
        raise RefusedError(
            f"The gallery holds vectors already, and nothing says that those of {table.path} can be compared with them: "
            f"name the generation that made them with --into, or import them into another workspace."
        )
    name, place = next_generation(holdings)
    method = MethodCard(name="import", parameters={"table": table.path.name})
    made = write_vector_space(place, name=name, dimension=table.dimension, content=table.content, method=method)
    return made, True


def _put_table(
    store: GalleryStore, table: VectorTable, maker: Generation, watcher: Watcher, *, relabel: bool = False
) -> PutCounts:
    """Put the vectors of a table into the gallery as those of ``maker``, each batch durable before the next."""
    time, done = now(), 0
    counts = PutCounts(0, 0, 0)
    for batch in table.batches(BATCH):
        items = list(_items(batch, maker.fingerprint, time))
        if not relabel:
            items = at_known_addresses(items, store.get_many(batch.ids, with_embeddings=False))
        counts += store.put(items, relabel=relabel)
        done += len(batch)
        watcher.counted("importing", done, table.rows)
    return counts


def _write_table(store: GalleryStore, makers: Sequence[Generation], path: Path, watcher: Watcher) -> VectorExport:
    """Write the vectors of one generation to a table, batch by batch.

    Args:
        store: the gallery.
        makers: the generation, or those that the gallery holds vectors of where none was named.
        path: its suffix is the format.
        watcher: hears of progress.

    Raises:
        NotFoundError: there is nothing to write.
        InputError: several generations, or a file that cannot be written.
    """
    if len(makers) > 1:
        names = ", ".join(maker.name for maker in makers)
        raise InputError(f"The gallery holds vectors of {names}: name one of them with --generation, each in its file.")
    where = Filter(generations=tuple(maker.fingerprint for maker in makers))
    rows = store.count(where)
    if not rows:
        whose = f" of {makers[0].name}" if makers else ""
        raise NotFoundError(f"The gallery holds no vectors{whose}: there is nothing to export.")
    maker = makers[0]

    def batches() -> Iterator[VectorBatch]:
        done = 0
        for items in store.iterate(where, batch_size=BATCH):
            yield _batch(items)
            done += len(items)
            watcher.counted("exporting", done, rows)

    files = write_vectors(path, batches(), rows=rows, dimension=maker.card.dimension, space=maker.fingerprint)
    return VectorExport(maker.name, rows, tuple(files))


def _refresh_from_table(
    holdings: Holdings, table: VectorTable, maker: Generation, is_new: bool, watcher: Watcher
) -> VectorImport:
    """New vectors of stored items, made elsewhere, as an open refresh for the generation that made them.

    Raises:
        RefusedError: another refresh is open.
    """
    space = Space(maker)
    opened = open_refresh(holdings, space, space, None)
    started, done, gained, unknown = clock.perf_counter(), 0, 0, []
    view = holdings.state.view().before(opened.id)
    for batch in table.batches(REFRESHED_AT_ONCE):
        new = []
        for identifier, embedding in zip(batch.ids, batch.embeddings, strict=True):
            item = holdings.gallery.get(identifier, view=view)
            if item is None:
                unknown.append(UnreadableImage(identifier, "no stored item has this id"))
            else:
                new.append(replace(item, embedding=embedding, generation=maker.fingerprint))
        before, gained = gained, gained + holdings.gallery.refresh(new, opened.id)
        if gained and not before and not is_new and not maker.extracts and holdings.state.promoted != maker.name:
            # Of vectors alone nothing else is known than what was measured of them, and these are others.
            forget(holdings, space)
        done += len(batch)
        watcher.counted("importing", done, table.rows)
    holdings.journal.record(
        "import", generation=maker.name, file=str(table.path), refresh=opened.id, replaced=gained, skipped=len(unknown)
    )
    return VectorImport(
        generation=maker.name,
        is_new=is_new,
        added=0,
        replaced=gained,
        unchanged=done - gained - len(unknown),
        normalised=table.normalised,
        skipped=(*table.skipped, *unknown),
        seconds=clock.perf_counter() - started,
        bytes=4 * gained * table.dimension,
    )


def _items(batch: VectorBatch, fingerprint: str, time: str) -> Iterator[Item]:
    """The rows of a table as items that are added at a time."""
    columns = (batch.ids, batch.embeddings, batch.labels, batch.uris, batch.content_hashes, batch.metadata)
    for identifier, embedding, label, uri, content, metadata in zip(*columns, strict=True):
        yield Item(identifier, embedding, fingerprint, label, uri, content, time, metadata)


def _batch(items: Sequence[Item]) -> VectorBatch:
    """Items as rows of a table, without the secrets of their addresses."""
    return VectorBatch(
        ids=tuple(item.id for item in items),
        embeddings=np.stack([item.embedding for item in items]),
        labels=tuple(item.label for item in items),
        uris=tuple(None if item.uri is None else redacted(item.uri) for item in items),
        content_hashes=tuple(item.content_hash for item in items),
        metadata=tuple(item.metadata for item in items),
    )

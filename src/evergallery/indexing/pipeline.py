"""Images into a gallery: read and decoded while the network embeds, and stored as they come, durable within seconds.

Nothing that grows with the number of images is kept in memory, and no pixels are kept on disk: an image that is stored
already is known by its hash, so the next pass over it reads its file and no more.
"""

import itertools
import time as clock
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.images import UnreadableImage
from evergallery.data.listing import Listing
from evergallery.data.sources import check_classes
from evergallery.data.spool import Addresses, IdRegister, Spool
from evergallery.data.streaming import Picture, batch_size, blocks, pictures_of
from evergallery.errors import InputError
from evergallery.extraction.extraction import Extraction, PictureAnswer
from evergallery.gallery.items import Filter, Item, LabelConflict, PutCounts
from evergallery.gallery.store import GalleryStore
from evergallery.generations.generation import Generation
from evergallery.holdings.image_files import NAMES_KEPT
from evergallery.holdings.state import now
from evergallery.indexing.copies import at_known_addresses
from evergallery.indexing.outdated import AT_ONCE, OutdatedItems
from evergallery.indexing.skipped_names import SkippedNames
from evergallery.watching import Watcher

TOGETHER, WITHIN = 1000, 5.0
"""Items that are stored at once, and seconds after which fewer are: while the engine forces some to disk, nothing else runs."""


@dataclass(frozen=True)
class IndexResult:
    """The result of ``index``.

    Attributes:
        generation: that made the vectors.
        added: items.
        replaced: items of the same id that said something else.
        unchanged: items that were there already; of these only the files were read.
        copies: files of a picture that is stored under another address, which stays.
        copied: those files; the first 100.
        conflicts: items that have another label than these images say, and keep it; the first 100.
        conflict_count: how many those are in all.
        moved: items of pictures that were found at another address than theirs, where they no longer are.
        changed: items whose address has another picture by now.
        gone: items whose address has nothing any more, where that was looked for.
        outdated: addresses of what is changed or gone; the first 100.
        pruned: how many of those items were deleted.
        skipped: what could not be read; the first 1 000 where there are more.
        skipped_count: how many those are in all.
        skipped_file: a table of all of them, where there are more than 1 000.
        seconds: spent.
    """

    generation: str
    added: int
    replaced: int
    unchanged: int
    skipped: tuple[UnreadableImage, ...]
    seconds: float
    skipped_count: int = 0
    skipped_file: Path | None = None
    copies: int = 0
    copied: tuple[str, ...] = ()
    conflicts: tuple[LabelConflict, ...] = ()
    conflict_count: int = 0
    moved: int = 0
    changed: int = 0
    gone: int = 0
    outdated: tuple[str, ...] = ()
    pruned: int = 0


@dataclass(frozen=True)
class Batch:
    """Images on their way into the gallery.

    Attributes:
        new: items without an embedding; their pictures go beside the batch.
        rewritten: items whose vector is known, but of which something else is said now.
        unchanged: how many are there already.
        again: pictures whose id came by before, as items without an embedding.
        skipped: what could not be read.
        passed: how many images this was.
        found: address and hash of each picture, and whether the gallery lacks it.
    """

    new: list[Item]
    rewritten: list[Item]
    unchanged: int
    again: list[Item]
    skipped: list[UnreadableImage]
    passed: int
    found: list[tuple[str, str, bool]]


@dataclass(frozen=True)
class StoredItemPolicy:
    """The treatment of items that are stored already.

    Attributes:
        relabel: whether a label, or an address, takes the place of another one that is stored.
        root: folder that all items below it are compared with; by default only those at addresses of new pictures are.
        prune: asked, with a question for people, whether items are deleted whose picture is no longer at its address.
    """

    relabel: bool = False
    root: str | None = None
    prune: Callable[[str], bool] = lambda question: False


@dataclass(frozen=True)
class IndexSource:
    """Images that are to be stored.

    Attributes:
        images: decoded already, or a listing of files.
        name: what they are called in messages.
        skipped_file: written where there are too many names of bad files to return.
        split: only the images of this split.
        policy: what becomes of items that are stored already.
    """

    images: ImageSet | Listing
    name: str
    skipped_file: Path
    split: str | None = None
    policy: StoredItemPolicy = StoredItemPolicy()


def index_images(
    store: GalleryStore,
    maker: Generation,
    extraction: Extraction,
    incoming: IndexSource,
    watcher: Watcher,
) -> IndexResult:
    """Store the images' vectors by ``maker``; an image that two files hold is stored once, with what either says of it.

    Args:
        store: the gallery.
        maker: the generation.
        extraction: where the images are read and embedded by it.
        incoming: the images.
        watcher: hears of progress.

    Raises:
        InputError: the listing is wrong, there is no such split, or none of the files can be read.
    """
    started = clock.perf_counter()
    with ExitStack() as stack:
        source = _opened(stack, incoming, extraction)
        run = _Run(stack, store, maker, source, incoming.policy)
        prepared = map(run.prepare, blocks(source.found, batch_size(maker.preprocessing.size)))
        try:
            for batch, answers in stack.enter_context(closing(extraction.embed(prepared, source.total))):
                run.take(batch, answers)
                watcher.counted("indexing", min(run.done, source.total), source.total)
        finally:
            run.store_taken()
        outdated, pruned = run.outdated()
    skipped = run.skipped
    if skipped.count == source.total and skipped.first:
        first = skipped.first[0]
        raise InputError(f"None of the {source.total} images of {incoming.name} can be read, the first: {first}")
    return IndexResult(
        generation=maker.name,
        added=run.counts.added,
        replaced=run.counts.replaced,
        unchanged=run.counts.unchanged,
        skipped=tuple(skipped.first),
        seconds=clock.perf_counter() - started,
        skipped_count=skipped.count,
        skipped_file=incoming.skipped_file if skipped.is_written else None,
        copies=run.copies,
        copied=tuple(run.copied),
        conflicts=run.counts.conflicts,
        conflict_count=run.counts.conflict_count,
        moved=run.moved,
        changed=outdated.changed,
        gone=outdated.gone,
        outdated=tuple(outdated.first),
        pruned=pruned,
    )


@dataclass(frozen=True)
class _Source:
    """Images on their way in.

    Attributes:
        found: pictures as they are read, and what could not be.
        refused: what the listing says cannot be read.
        total: how many both are.
        skipped_file: see ``IndexSource``.
    """

    found: Iterable[Picture | UnreadableImage]
    refused: Sequence[UnreadableImage]
    total: int
    skipped_file: Path


def _opened(stack: ExitStack, incoming: IndexSource, extraction: Extraction) -> _Source:
    """Images that are read as they are asked for, until the stack is closed."""
    images, split = incoming.images, incoming.split
    if isinstance(images, Listing):
        spool = stack.enter_context(closing(Spool(images, split)))
        check_classes(((label, None) for label in spool.labels()), 1, incoming.name)
        refused = list(spool.refused())
        found = stack.enter_context(closing(extraction.read(spool)))
        return _Source(found, refused, len(spool) + len(refused), incoming.skipped_file)
    images = images.of_split(split) if split is not None else images
    return _Source(itertools.chain(images.skipped, pictures_of(images)), [], len(images), incoming.skipped_file)


class _Run:
    """One run over images: which have come by, what was skipped, and what was done so far.

    Args:
        stack: closes what is opened here.
        store: the gallery.
        maker: the generation.
        source: the images.
        known: what becomes of items that are stored already.
    """

    def __init__(
        self, stack: ExitStack, store: GalleryStore, maker: Generation, source: _Source, known: StoredItemPolicy
    ) -> None:
        self.store, self.maker, self.source, self.known = store, maker, source, known
        self.was_empty = not store.count()
        self.addresses = stack.enter_context(closing(Addresses()))
        self.register = stack.enter_context(closing(IdRegister()))
        self.skipped = stack.enter_context(closing(SkippedNames(source.skipped_file)))
        self.skipped.add(source.refused)
        self.done = len(source.refused)
        self.counts = PutCounts(0, 0, 0)
        self.copies, self.moved = 0, 0
        self.copied: list[str] = []
        self._items: list[Item] = []
        self._batches: list[Batch] = []
        self._last = clock.monotonic()

    def prepare(self, block: Sequence[Picture | UnreadableImage]) -> tuple[Batch, list[Picture]]:
        """Return what is to be done about a block of images, and which of them are to be embedded."""
        return _prepared(block, self.store, self.maker, self.register)

    def take(self, batch: Batch, answers: Sequence[PictureAnswer]) -> None:
        """Note what was found at which address, and store the batch with others."""
        items, bad = _answered(batch, answers, self.register)
        for uri, content, is_new in batch.found:
            self.addresses.add(uri, content, is_new)
        for file in bad:
            self.addresses.add(file.uri, None, False)
        self._items += items
        self._batches.append(batch)
        self.skipped.add(bad)
        self.done += batch.passed
        if len(self._items) >= TOGETHER or clock.monotonic() - self._last >= WITHIN:
            self.store_taken()

    def store_taken(self) -> None:
        """Store what was taken and is not yet; durable when this returns."""
        items, batches = self._items, self._batches
        self._items, self._batches = [], []
        again = [item for batch in batches for item in batch.again]
        known = _stored(self.store, items)
        placed = items if self.known.relabel else at_known_addresses(items, known)
        self.moved += sum(_is_moved(item, known.get(item.id)) for item in placed)
        others = [item.uri for item, there in zip(items, placed, strict=True) if item.uri != there.uri]
        others += [item.uri for item in again]
        self.copies += len(others)
        self.copied += [str(uri) for uri in others[: NAMES_KEPT - len(self.copied)]]
        unchanged = sum(batch.unchanged for batch in batches)
        self.counts += self.store.put(placed, relabel=self.known.relabel) + PutCounts(0, 0, unchanged)
        self.counts += _put_again(self.store, again)
        self._last = clock.monotonic()

    def outdated(self) -> tuple[OutdatedItems, int]:
        """Items whose picture is no longer at their address, and how many of them were deleted.

        Below a root all items are looked at; without one, those at the addresses of new pictures in a gallery that held some.
        """
        outdated, root = OutdatedItems(), self.known.root
        if root is None:
            for uris in () if self.was_empty else self.addresses.new(AT_ONCE):
                outdated.look(self.addresses, self.store.iterate(Filter(uris=tuple(uris)), with_embeddings=False))
            return outdated, 0
        for file in self.source.refused:
            self.addresses.add(file.uri, None, False)
        outdated.look(self.addresses, self.store.iterate(with_embeddings=False), root)
        return outdated, outdated.prune(self.addresses, self.store, self.known.prune)


def _is_moved(item: Item, known: Item | None) -> bool:
    same = known is not None and item.content_hash is not None and item.content_hash == known.content_hash
    return same and known is not None and known.uri is not None and item.uri != known.uri


def _prepared(
    block: Sequence[Picture | UnreadableImage], store: GalleryStore, maker: Generation, register: IdRegister
) -> tuple[Batch, list[Picture]]:
    """Return what is to be done about a block of images, nothing where the gallery holds it already; and which to embed."""
    found = [picture for picture in block if isinstance(picture, Picture)]
    is_first = register.first_times([_identifier(picture) for picture in found])
    firsts = [picture for picture, first in zip(found, is_first, strict=True) if first]
    again = [picture for picture, first in zip(found, is_first, strict=True) if not first]
    time = now()
    items = [_item(picture, maker.fingerprint, time) for picture in firsts]
    stored = _stored(store, items)
    new: list[Item] = []
    pictures: list[Picture] = []
    known: list[Item] = []
    unchanged = 0
    for item, picture in zip(items, firsts, strict=True):
        there = stored.get(item.id)
        if there is None or (there.generation, there.content_hash) != (item.generation, item.content_hash):
            new.append(item)
            pictures.append(picture)
        elif item.keeping(there).same_but_for_time(there):
            unchanged += 1
        else:
            known.append(item)
    vectors = store.get_many([item.id for item in known]) if known else {}
    lacking = {item.id for item in new}
    batch = Batch(
        new=new,
        rewritten=[replace(item, embedding=vectors[item.id].embedding) for item in known],
        unchanged=unchanged,
        again=[_item(picture, maker.fingerprint, time) for picture in again],
        skipped=[picture for picture in block if isinstance(picture, UnreadableImage)],
        passed=len(block),
        found=[(picture.entry.uri, picture.content, _identifier(picture) in lacking) for picture in found],
    )
    return batch, pictures


def _answered(
    batch: Batch, answers: Sequence[PictureAnswer], register: IdRegister
) -> tuple[list[Item], list[UnreadableImage]]:
    """Return what is to be stored of a batch, and what could not be read or decoded."""
    items, bad = list(batch.rewritten), list(batch.skipped)
    for item, answer in zip(batch.new, answers, strict=True):
        if isinstance(answer, UnreadableImage):
            bad.append(answer)
            register.blame(item.id, answer.reason)
        else:
            items.append(replace(item, embedding=answer))
    for item in list(batch.again):
        reason = register.blamed(item.id)
        if reason is not None:
            bad.append(UnreadableImage(str(item.uri), reason))
            batch.again.remove(item)
    return items, bad


def _put_again(store: GalleryStore, again: Sequence[Item]) -> PutCounts:
    """Store what further files of pictures that were just stored say of them; returns their conflicts alone."""
    stored = _stored(store, again)
    adding = [item for item in again if item.id in stored and _says_more(item, stored[item.id])]
    vectors = store.get_many([item.id for item in adding]) if adding else {}
    counts = PutCounts(0, 0, 0)
    # One at a time: two of them may be of one picture.
    for item in adding:
        known = vectors[item.id]
        counts += store.put([replace(item, embedding=known.embedding, uri=None)])
    return PutCounts(0, 0, 0, counts.conflicts, counts.conflict_count)


def _says_more(item: Item, known: Item) -> bool:
    same_picture = (item.generation, item.content_hash) == (known.generation, known.content_hash)
    return same_picture and not replace(item, uri=None).keeping(known).same_but_for_time(known)


def _stored(store: GalleryStore, items: Sequence[Item]) -> dict[str, Item]:
    return store.get_many([item.id for item in items], with_embeddings=False) if items else {}


def _identifier(picture: Picture) -> str:
    return picture.entry.item_id or picture.content


def _item(picture: Picture, fingerprint: str, time: str) -> Item:
    entry = picture.entry
    return Item(
        id=_identifier(picture),
        embedding=np.empty(0, np.float32),
        generation=fingerprint,
        label=entry.label,
        uri=entry.uri,
        content_hash=picture.content,
        added=time,
        metadata=entry.metadata,
    )

"""Images into a gallery: read and decoded while the network embeds, and stored batch by batch, each durable before the next.

Nothing that grows with the number of images is kept in memory, and no pixels are kept on disk: an image that is stored
already is known by its hash, so the next pass over it reads its file and no more.
"""

import itertools
import time as clock
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Skipped
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
from evergallery.indexing.outdated import AT_ONCE, Outdated
from evergallery.indexing.skipped_names import SkippedNames
from evergallery.watching import Watcher


@dataclass(frozen=True)
class Indexed:
    """What ``index`` did.

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
    skipped: tuple[Skipped, ...]
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
    skipped: list[Skipped]
    passed: int
    found: list[tuple[str, str, bool]]


def index_images(
    store: GalleryStore,
    maker: Generation,
    extraction: Extraction,
    images: ImageSet | Listing,
    watcher: Watcher,
    *,
    source: str,
    split: str | None = None,
    relabel: bool = False,
    skipped_file: Path,
    root: str | None = None,
    prune: Callable[[str], bool] = lambda question: False,
) -> Indexed:
    """Store the images' vectors by ``maker``; an image that two files hold is stored once, with what either says of it.

    Args:
        store: the gallery.
        maker: the generation.
        extraction: where the images are read and embedded by it.
        images: decoded already, or a listing of files.
        watcher: hears of progress.
        source: what the images are called in messages.
        split: only the images of this split.
        relabel: whether a label, or an address, takes the place of another one that is stored.
        skipped_file: written where there are too many names of bad files to return.
        root: folder that all items below it are compared with; by default only those at addresses of new pictures are.
        prune: asked, with a question for people, whether items are deleted whose picture is no longer at its address.

    Raises:
        InputError: the listing is wrong, there is no such split, or none of the files can be read.
    """
    started = clock.perf_counter()
    with ExitStack() as stack:
        images_in = _opened(stack, images, split, source, extraction)
        before = store.count()
        addresses = stack.enter_context(closing(Addresses()))
        register = stack.enter_context(closing(IdRegister()))
        skipped = stack.enter_context(closing(SkippedNames(skipped_file)))
        skipped.add(images_in.refused)
        prepared = (
            _prepared(block, store, maker, register)
            for block in blocks(images_in.found, batch_size(maker.preprocessing.size))
        )
        told = _Told(done=len(images_in.refused))
        for batch, answers in stack.enter_context(closing(extraction.embed(prepared, images_in.total))):
            items, bad = _answered(batch, answers, register)
            _note(addresses, batch, bad)
            _store(store, batch, items, told, relabel)
            skipped.add(bad)
            told.done += batch.passed
            watcher.counted("indexing", min(told.done, images_in.total), images_in.total)
        outdated, pruned = _outdated(store, addresses, images_in.refused, root, bool(before), prune)
    if skipped.count == images_in.total and skipped.first:
        one = skipped.first[0]
        raise InputError(
            f"None of the {images_in.total} images of {source} can be read, the first: {one.uri}: {one.reason}"
        )
    return Indexed(
        generation=maker.name,
        added=told.counts.added,
        replaced=told.counts.replaced,
        unchanged=told.counts.unchanged,
        skipped=tuple(skipped.first),
        seconds=clock.perf_counter() - started,
        skipped_count=skipped.count,
        skipped_file=skipped_file if skipped.is_written else None,
        copies=told.copies,
        copied=tuple(told.copied),
        conflicts=told.counts.conflicts,
        conflict_count=told.counts.conflict_count,
        moved=told.moved,
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
    """

    found: Iterable[Picture | Skipped]
    refused: Sequence[Skipped]
    total: int


@dataclass
class _Told:
    """What was done so far."""

    done: int
    counts: PutCounts = field(default_factory=lambda: PutCounts(0, 0, 0))
    copies: int = 0
    copied: list[str] = field(default_factory=list)
    moved: int = 0


def _opened(
    stack: ExitStack, images: ImageSet | Listing, split: str | None, source: str, extraction: Extraction
) -> _Source:
    """Images that are read as they are asked for, until the stack is closed."""
    if isinstance(images, Listing):
        spool = stack.enter_context(closing(Spool(images, split)))
        check_classes(((label, None) for label in spool.labels()), 1, source)
        refused = list(spool.refused())
        found = stack.enter_context(closing(extraction.read(spool)))
        return _Source(found, refused, len(spool) + len(refused))
    images = images.of_split(split) if split is not None else images
    return _Source(itertools.chain(images.skipped, pictures_of(images)), [], len(images))


def _store(store: GalleryStore, batch: Batch, items: Sequence[Item], told: _Told, relabel: bool) -> None:
    """Store a batch, durable when this returns."""
    known = _stored(store, items)
    placed = items if relabel else at_known_addresses(items, known)
    told.moved += sum(_is_moved(one, known.get(one.id)) for one in placed)
    others = [one.uri for one, there in zip(items, placed, strict=True) if one.uri != there.uri]
    others += [one.uri for one in batch.again]
    told.copies += len(others)
    told.copied += [str(uri) for uri in others[: NAMES_KEPT - len(told.copied)]]
    told.counts += store.put(placed, relabel=relabel) + PutCounts(0, 0, batch.unchanged)
    told.counts += _said_again(store, batch.again)


def _outdated(
    store: GalleryStore,
    addresses: Addresses,
    refused: Sequence[Skipped],
    root: str | None,
    occupied: bool,
    prune: Callable[[str], bool],
) -> tuple[Outdated, int]:
    """Items whose picture is no longer at their address, and how many of them were deleted.

    Below a root all items are looked at; without one, those at the addresses of new pictures in a gallery that held some.
    """
    outdated = Outdated()
    if root is None:
        for uris in addresses.new(AT_ONCE) if occupied else ():
            outdated.look(addresses, store.iterate(Filter(uris=tuple(uris)), with_embeddings=False))
        return outdated, 0
    for one in refused:
        addresses.add(one.uri, None, False)
    outdated.look(addresses, store.iterate(with_embeddings=False), root)
    return outdated, outdated.prune(addresses, store, prune)


def _note(addresses: Addresses, batch: "Batch", bad: Sequence[Skipped]) -> None:
    for uri, content, is_new in batch.found:
        addresses.add(uri, content, is_new)
    for one in bad:
        addresses.add(one.uri, None, False)


def _is_moved(item: Item, known: Item | None) -> bool:
    same = known is not None and item.content_hash is not None and item.content_hash == known.content_hash
    return same and known is not None and known.uri is not None and item.uri != known.uri


def _prepared(
    block: Sequence[Picture | Skipped], store: GalleryStore, maker: Generation, register: IdRegister
) -> tuple[Batch, list[Picture]]:
    """What is to be done about a block of images, nothing where the gallery holds what it says; and which are to be embedded."""
    found = [one for one in block if isinstance(one, Picture)]
    is_first = register.first_times([_identifier(one) for one in found])
    firsts = [one for one, first in zip(found, is_first, strict=True) if first]
    time = now()
    items = [_item(one, maker.fingerprint, time) for one in firsts]
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
        new,
        [replace(item, embedding=vectors[item.id].embedding) for item in known],
        unchanged,
        [_item(one, maker.fingerprint, time) for one, first in zip(found, is_first, strict=True) if not first],
        [one for one in block if isinstance(one, Skipped)],
        len(block),
        [(one.entry.uri, one.content, _identifier(one) in lacking) for one in found],
    )
    return batch, pictures


def _answered(batch: Batch, answers: Sequence[PictureAnswer], register: IdRegister) -> tuple[list[Item], list[Skipped]]:
    """What is to be stored of a batch, and what could not be read or decoded."""
    items, bad = list(batch.rewritten), list(batch.skipped)
    for item, answer in zip(batch.new, answers, strict=True):
        if isinstance(answer, Skipped):
            bad.append(answer)
            register.blame(item.id, answer.reason)
        else:
            items.append(replace(item, embedding=answer))
    for item in list(batch.again):
        reason = register.blamed(item.id)
        if reason is not None:
            bad.append(Skipped(str(item.uri), reason))
            batch.again.remove(item)
    return items, bad


def _said_again(store: GalleryStore, again: Sequence[Item]) -> PutCounts:
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

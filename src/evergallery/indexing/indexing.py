"""The verbs ``index`` and ``add``: images, or vectors, into the gallery of a workspace."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evergallery.data.image_set import ImageSet
from evergallery.data.listing import Listing
from evergallery.data.source_roots import SourceRoots
from evergallery.data.sources import find, folder_at
from evergallery.errors import InputError
from evergallery.extraction.opening import extracting
from evergallery.gallery.items import Item, PutCounts, check_items
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import require_compatible, space_of, stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.image_roots import allowing
from evergallery.holdings.spaces import Space
from evergallery.indexing.pipeline import IndexResult, IndexSource, StoredItemPolicy, index_images
from evergallery.watching import SILENT, Watcher


def index(
    holdings: Holdings,
    data: str | Path | ImageSet,
    *,
    generation: str | None = None,
    split: str | None = None,
    metadata: Sequence[str] = (),
    relabel: bool = False,
    sync: bool = False,
    prune: bool = False,
    data_dir: Path | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    watcher: Watcher = SILENT,
) -> IndexResult:
    """Extract images with a generation and keep their vectors in the gallery; labels are optional.

    An item's id is the table's ``item_id`` or else the SHA-256 of its content, so the same content is kept once.
    Items are durable within seconds; after an interruption the same call goes on where it stopped. Files are decoded
    while the network embeds those before, in an amount of memory that does not grow with their number; of what is stored
    already, only the file is read.

    What is known of a stored picture stays where these images say nothing of it. Its label stays even where they say another
    one, which is counted, and its address as long as the picture is still there.

    Args:
        data: a folder, file, table, array file, named set or image set; a folder, table or file also as a URL that
            fsspec reads, such as ``s3://bucket/folder``.
        generation: that makes the vectors; the promoted one by default.
        split: only the images of this split.
        metadata: columns of a table that are kept as the items' metadata.
        relabel: a label, or the address of the same picture, takes the place of another one that is known.
        sync: compare all items that lie below the folder with what is in it now: which were changed, and which are gone.
            Whether they are deleted is asked of the watcher.
        prune: delete them unasked.
        data_dir: where named sets lie.
        cluster: the address of a Ray cluster whose workers read and extract, as ``ray.init`` takes it; ``local`` starts one
            on this machine. By default this process does it.
        workers: how many of the cluster's there are to be; one for each of its GPUs by default, or else of its CPUs.
        watcher: hears of progress.

    Raises:
        RefusedError: the gallery holds vectors that this generation has not been shown to be compatible with.
        NotFoundError: nothing answers at the cluster's address.
    """
    folder = _compared_folder(data, split, sync=sync, prune=prune)
    holdings.gallery.refuse_items()
    maker = holdings.generation(generation) if generation else holdings.promoted
    require_compatible(holdings, Space(maker), stored_spaces(holdings))
    places = SourceRoots("" if isinstance(data, ImageSet) else data, data_dir, holdings.state.image_roots)
    images = _images_of(data, maker, places, data_dir, metadata)
    policy = StoredItemPolicy(relabel, folder, lambda question: prune or watcher.confirms(question))
    with allowing(holdings, places, watcher), extracting(holdings, maker, cluster, workers, watcher) as extraction:
        source = IndexSource(images, str(data), holdings.directory / "skipped.csv", split, policy)
        done = index_images(holdings.gallery, maker, extraction, source, watcher)
    _record(holdings, done, extraction.how)
    return done


def _compared_folder(data: str | Path | ImageSet, split: str | None, *, sync: bool, prune: bool) -> str | None:
    """The folder whose stored items are all compared with what is in it now; ``None`` where nobody asks for that.

    Raises:
        InputError: it is asked for of something else than a whole folder, or only what follows from it is.
    """
    folder = None if isinstance(data, ImageSet) or not sync else folder_at(data)
    if (sync or prune) and (folder is None or split is not None):
        raise InputError("What is gone is known of a whole folder alone: index a folder, without --split, with --sync.")
    return folder


def _images_of(
    data: str | Path | ImageSet, maker: Generation, places: SourceRoots, data_dir: Path | None, metadata: Sequence[str]
) -> ImageSet | Listing:
    """The images of a source, or where they are; ``places`` notes what the listing leads to as it is gone through."""
    if isinstance(data, ImageSet):
        return data
    found = find(data, maker.preprocessing, data_dir=data_dir, require_labels=False, metadata=metadata)
    return places.watched(found) if isinstance(found, Listing) else found


def _record(holdings: Holdings, done: IndexResult, how: Mapping[str, Any]) -> None:
    holdings.journal.record(
        "index",
        generation=done.generation,
        added=done.added,
        replaced=done.replaced,
        unchanged=done.unchanged,
        conflicts=done.conflict_count,
        pruned=done.pruned,
        skipped=done.skipped_count,
        seconds=round(done.seconds, 1),
        **how,
    )


def add(holdings: Holdings, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
    """Store vectors made elsewhere; each item names the fingerprint of its generation.

    What is known of an item stays where the new one says nothing of it; its label even where it says another one, unless
    ``relabel``.

    Raises:
        RefusedError: a fingerprint that is no generation's here, or a space that has not been shown compatible
            with the gallery's.
        InputError: a vector of the wrong dimension, not finite, or not of unit length; or what no item can have.
    """
    check_items(items)
    for fingerprint in {item.generation for item in items}:
        require_compatible(holdings, space_of(holdings, fingerprint), stored_spaces(holdings))
    done = holdings.gallery.put(items, relabel=relabel)
    holdings.journal.record(
        "add", added=done.added, replaced=done.replaced, unchanged=done.unchanged, conflicts=done.conflict_count
    )
    return done

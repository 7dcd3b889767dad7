"""The image files of stored items: whether they are still there, and still the pictures that were stored."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evergallery.data.images import read_bytes
from evergallery.data.places import is_file, local_path
from evergallery.data.roots import Roots
from evergallery.errors import InputError, require_count
from evergallery.gallery.adopted import AdoptedCollection
from evergallery.gallery.items import Item
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.holdings import Holdings

NAMES_KEPT = 100


@dataclass(frozen=True)
class ImageFiles:
    """The state of the image files of stored items.

    Attributes:
        looked_at: files that were looked for, on this machine and below the roots of images.
        gone: items without a file at their address.
        changed: items whose address has another picture by now.
        outdated: addresses of those; the first 100.
    """

    looked_at: int
    gone: int
    changed: int
    outdated: tuple[str, ...] = ()

    def problems(self, gallery: GalleryStore) -> list[str]:
        """A sentence for each kind that there is in a gallery."""
        remedy = "let the gallery follow with  evergallery index FOLDER --sync"
        if isinstance(gallery, AdoptedCollection):
            remedy = f"correct their rows in {gallery.collection} and run  evergallery adopt"
        found = []
        if self.gone or self.changed:
            example = self.outdated[0]
            what = f"Of {self.looked_at} image files {self.gone} are gone and {self.changed} are other pictures by now"
            found.append(f"{what}, such as {example}: put them back, or {remedy}")
        return found


def image_files(holdings: Holdings, most: int | None = None) -> ImageFiles:
    """Look for the image files of stored items: how many are gone, or other pictures by now.

    Files are read where they were written since their item was added; ``doctor`` reads them all.

    Args:
        holdings: of the workspace.
        most: how many to look for at most, a random sample then.

    Raises:
        InputError: to look for none is no look.
    """
    if most is not None:
        require_count("most", most)
    return look_for_files(holdings.gallery.iterate(with_embeddings=False), holdings.roots, most=most)


def look_for_files(
    items: Iterable[Sequence[Item]], roots: Roots, *, most: int | None = None, thorough: bool = False
) -> ImageFiles:
    """Look for the files of items.

    Args:
        items: in batches; their embeddings are not needed.
        roots: files elsewhere are not looked for: their addresses may have come from anybody.
        most: how many files to look for at most; the first ones are a random sample, since items come in order of hashes.
        thorough: read every file, in place of those alone that were written since their item was added.
    """
    looked_at = gone = changed = 0
    outdated: list[str] = []
    for item in (item for batch in items for item in batch):
        path = local_path(item.uri) if item.uri else None
        # What is no whole path is a name that somebody has given to a picture of no file.
        if item.uri is None or path is None or not path.is_absolute() or not roots.admits(item.uri):
            continue
        if looked_at == most:
            break
        looked_at += 1
        is_gone = not is_there(item.uri)
        is_changed = not is_gone and differs(item, _content(item, thorough))
        gone += is_gone
        changed += is_changed
        if (is_gone or is_changed) and len(outdated) < NAMES_KEPT:
            outdated.append(item.uri)
    return ImageFiles(looked_at, gone, changed, tuple(outdated))


def is_there(address: str) -> bool:
    """Return whether an image is at an address of this machine: a file, or a place (``#``) in a file of arrays."""
    return is_file(address) or is_file(address.rpartition("#")[0])


def differs(item: Item, content: str | None) -> bool:
    """Return whether an item is of another picture than the one that was found at its address; not where nobody can tell.

    Args:
        item: with the hash of its picture.
        content: SHA-256 of the file's bytes; ``None`` where it could not be read.
    """
    # Hashes of other tools need not be of a file's bytes; 64 hex digits are.
    return content is not None and len(item.content_hash or "") == len(content) and item.content_hash != content


def _content(item: Item, thorough: bool) -> str | None:
    path = local_path(item.uri or "")
    if path is None or not (thorough or _is_newer(path, item.added)):
        return None
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except InputError:
        return None


def _is_newer(path: Path, added: str) -> bool:
    try:
        # Times are kept in whole seconds.
        return path.stat().st_mtime >= datetime.fromisoformat(added).timestamp()
    except (OSError, ValueError):
        return False

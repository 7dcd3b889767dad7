"""The roots that a source adds while it is indexed: what lies in it, where its links lead, where its tables lie.

Apart from ``roots``, which every verb asks, because this knows how sources are listed and loads what reads images.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from evergallery.data.datasets import NAMED
from evergallery.data.images import SUFFIXES, UnreadableImage
from evergallery.data.listing import Entry, Listing
from evergallery.data.places import local_path
from evergallery.data.roots import Roots, is_below, root_of
from evergallery.data.tables import TABLE_SUFFIXES
from evergallery.errors import InputError

STORAGES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "memory"}
"""Schemes of addresses that name a bucket, and no machine."""
MOST_LINKS = 1000
"""Places outside of a folder, to which links in it lead, that become roots with it."""


class SourceRoots:
    """The roots that are learned of while the listing of a source is gone through.

    Attributes:
        root: the source's own, as it is kept; ``None`` of what is made here.
        links: places outside of the root to which links in it lead; they are as much the operator's.
        outside: how many addresses a table names elsewhere, whose places are nobody's yet.
        example: one of them.
        is_read: whether the listing was gone through to its end; what is no listing was read before.

    Args:
        source: what is indexed.
        data_dir: where named sets lie.
        roots: that there are.
    """

    def __init__(self, source: str | Path, data_dir: Path | None, roots: Iterable[str]) -> None:
        self._folder = _folder_of(source, data_dir)
        self.root = None if self._folder is None else root_of(self._folder)
        self.links: set[str] = set()
        self.outside = 0
        self.example = ""
        self.is_read = True
        self._roots = Roots([*roots, self.root] if self.root is not None else roots)

    def watched(self, listing: Listing) -> Listing:
        """Give the same listing, and note each file in it.

        Raises:
            InputError: while it is gone through: it names an address of the web, or of another machine, that is not allowed.
        """
        self.is_read = False
        return Listing(self._entries(listing.entries), listing.by_path)

    def _entries(self, entries: Iterable[Entry | UnreadableImage]) -> Iterator[Entry | UnreadableImage]:
        folder, place = "", ""
        for entry in entries:
            if isinstance(entry, UnreadableImage):
                yield entry
                continue
            path = local_path(entry.uri)
            if path is None:
                if not self._roots.admits(entry.uri):
                    _require_storage(entry.uri)
                    self._note(entry.uri)
                yield entry
                continue
            # Names that no system call takes are told by whoever opens them.
            parent, name = os.path.split(os.fspath(path))
            if "\0" not in parent and parent != folder:
                folder, place = parent, os.path.realpath(parent)
            is_link = "\0" not in name and path.is_symlink()
            real = os.path.realpath(path) if is_link else f"{place}/{name}"
            if not self._roots.admits(real):
                is_link_of_the_source = self._folder is not None and is_below(os.path.normpath(path), self._folder)
                if is_link_of_the_source and len(self.links) < MOST_LINKS:
                    self.links.add(real if is_link else place)
                else:
                    self._note(entry.uri)
            yield entry
        self.is_read = True

    def _note(self, address: str) -> None:
        self.outside += 1
        self.example = self.example or address


def _folder_of(source: str | Path, data_dir: Path | None) -> str | None:
    """Return where the images of a source lie: a folder, a table's folder, an image itself; ``None`` of what is made here."""
    path = local_path(source)
    suffix = PurePosixPath(str(source).partition("?")[0].rstrip("/")).suffix.lower()
    if path is None:
        is_file = suffix in TABLE_SUFFIXES or suffix in SUFFIXES
        return str(source).partition("?")[0].rpartition("/")[0] if is_file else str(source)
    path = Path(os.path.normpath(path.expanduser().absolute()))
    # As ``sources.find`` has it: where it is said where named sets lie, a folder of the same name is one of them.
    if path.exists() and not (data_dir is not None and str(source).lower() in NAMED):
        return str(path if path.is_dir() or suffix not in TABLE_SUFFIXES else path.parent)
    return None if data_dir is None else os.path.normpath(data_dir.absolute())


def _require_storage(address: str) -> None:
    scheme = address.partition("://")[0].lower()
    if scheme not in STORAGES or "::" in address:
        raise InputError(
            f"The table names {address}: what lies on the web, or on another machine, is opened only where you allow it, "
            f"with  --images-from {scheme}://HOST/FOLDER"
        )

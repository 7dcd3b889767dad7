"""Roots: places whose images may be opened again because whoever runs the search has said so.

The address of a stored item may have come from anybody, with a table of vectors for instance. Opened without question it would
show a private file to whoever may search, or send a request to a machine that only this one can reach. So it is opened where
it lies below a root: a folder that was indexed, or one that was allowed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from evergallery.data.datasets import NAMED
from evergallery.data.images import SUFFIXES, UnreadableImage
from evergallery.data.listing import Entry, Listing
from evergallery.data.places import local_path
from evergallery.data.tables import TABLE_SUFFIXES
from evergallery.errors import InputError

PORTS = {"http": ":80", "https": ":443"}
STORAGES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "memory"}
"""Schemes of addresses that name a bucket, and no machine."""
MOST_LINKS = 1000
"""Places outside of a folder, to which links in it lead, that become roots with it."""


class Roots:
    """The addresses that may be opened.

    Args:
        places: as ``root_of`` gives them.
        everything: whether there is no limit, because somebody has been asked.
    """

    def __init__(self, places: Iterable[str] = (), *, everything: bool = False) -> None:
        self._everything = everything
        self._here: list[str] = []
        self._elsewhere: list[tuple[str, str, str]] = []
        for place in places:
            parts = _parts(place)
            if parts is not None:
                self._elsewhere.append(parts)
            elif local_path(place) is not None:
                # Followed again: what a root is changes where a link on the way to it does.
                self._here.append(os.path.realpath(place))

    def admits(self, address: str) -> bool:
        """Return whether an address may be opened."""
        return self.opened(address) is not None

    def opened(self, address: str) -> str | None:
        """The address to open, on this machine with every link followed; ``None`` where none may be opened."""
        try:
            path = local_path(address)
            if path is None:
                return address if self._everything or self._admits_url(address) else None
            real = os.path.realpath(path)
        except (ValueError, OSError, InputError):
            return None
        return real if self._everything or any(_is_below(real, root) for root in self._here) else None

    def _admits_url(self, address: str) -> bool:
        parts = _parts(address)
        if parts is None:
            return False
        return any(
            parts[:2] == root[:2] and (parts[2] == root[2] or parts[2].startswith(root[2].rstrip("/") + "/"))
            for root in self._elsewhere
        )


EVERYWHERE = Roots(everything=True)


@lru_cache(64)
def roots_at(places: tuple[str, ...]) -> Roots:
    """The roots at these places."""
    return Roots(places)


def root_of(place: str | Path) -> str:
    """A place as it is kept: a path without links, or a URL without what no address is compared by.

    Raises:
        InputError: nothing can lie below it.
    """
    path = local_path(place)
    if path is not None:
        return os.path.realpath(path.expanduser())
    parts = _parts(str(place))
    if parts is None or not parts[1]:
        raise InputError(f"{place} is no place of images: name a folder, or a URL with a host or a bucket.")
    return "{}://{}{}".format(*parts)


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
                is_link_of_the_source = self._folder is not None and _is_below(os.path.normpath(path), self._folder)
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


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _parts(address: str) -> tuple[str, str, str] | None:
    """Scheme, host and path of a URL, by which addresses are compared; ``None`` of a path, and of what may mean two places."""
    scheme, is_url, rest = address.partition("://")
    if not is_url or "::" in address or "\\" in address or re.search(r"[\x00-\x1f\x7f]", address):
        return None
    authority, path = re.fullmatch(r"([^/?#]*)([^?#]*).*", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = authority.rpartition("@")[2].lower()
    steps = unquote(unquote(path)).replace("\\", "/").split("/")
    if authority.count("@") > 1 or " " in authority or ".." in steps or "." in steps:
        return None
    return scheme.lower(), host.removesuffix(PORTS.get(scheme.lower(), "")), path.rstrip("/")

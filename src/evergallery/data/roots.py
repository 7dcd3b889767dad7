"""Roots: places whose images may be opened again because whoever runs the search has said so.

The address of a stored item may have come from anybody, with a table of vectors for instance. Opened without question it would
show a private file to whoever may search, or send a request to a machine that only this one can reach. So it is opened where
it lies below a root: a folder that was indexed, or one that was allowed.
"""

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from evergallery.data.places import local_path
from evergallery.errors import InputError, require_named

PORTS = {"http": ":80", "https": ":443"}


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
        return real if self._everything or any(is_below(real, root) for root in self._here) else None

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
    require_named("a folder or URL", place)
    path = local_path(place)
    if path is not None:
        return os.path.realpath(path.expanduser())
    parts = _parts(str(place))
    if parts is None or not parts[1]:
        raise InputError(f"{place} is no place of images: name a folder, or a URL with a host or a bucket.")
    return "{}://{}{}".format(*parts)


def is_below(path: str, root: str) -> bool:
    """Return whether a path is a root or lies below it; both are without links."""
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

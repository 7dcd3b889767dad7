"""The images of stored items that may be opened again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evergallery.data.roots import root_of
from evergallery.data.source_roots import SourceRoots
from evergallery.errors import NotFoundError
from evergallery.holdings.holdings import Holdings, changing
from evergallery.watching import Watcher


def allow_images(holdings: Holdings, *places: str | Path) -> list[str]:
    """Let images be opened again that lie below these folders or URLs, by the server and by a refresh; returns all roots.

    Folders and tables that are indexed need not be allowed. What vectors were imported with, and what a table names outside
    of its folder, is an address that anybody may have written.

    Raises:
        InputError: no image can lie there.
    """
    with changing(holdings, "allowing images") as state:
        state.image_roots = list(dict.fromkeys([*state.image_roots, *map(root_of, places)]))
    holdings.journal.record("allow images", places=[root_of(place) for place in places])
    return list(holdings.state.image_roots)


def forbid_images(holdings: Holdings, *places: str | Path) -> list[str]:
    """Let nothing be opened below these roots any more, unless it lies below another; returns the roots that are left.

    Raises:
        NotFoundError: one of them is no root.
    """
    gone = list(map(root_of, places))
    for place in gone:
        if place not in holdings.state.image_roots:
            raise NotFoundError(f"{place} is not allowed anyway: list what is with  evergallery gallery images-from")
    with changing(holdings, "forbidding images") as state:
        state.image_roots = [root for root in state.image_roots if root not in gone]
    holdings.journal.record("forbid images", places=gone)
    return list(holdings.state.image_roots)


@contextmanager
def allowing(holdings: Holdings, places: SourceRoots, watcher: Watcher) -> Iterator[None]:
    """Record where what is indexed in the block lies: what was named by whoever indexes may be opened again.

    Where the block ends before all was listed, nothing was stored, and nothing more may be opened than before.
    """
    before = holdings.state.image_roots

    def record(*roots: str) -> None:
        new = [root for root in roots if root not in holdings.state.image_roots]
        if new:
            with changing(holdings, "indexing") as state:
                state.image_roots = list(dict.fromkeys([*state.image_roots, *new]))

    if places.root is not None:
        record(places.root)
    try:
        yield
    finally:
        if places.is_read:
            record(*sorted(places.links))
        elif places.root not in before:
            with changing(holdings, "indexing") as state:
                state.image_roots = [root for root in state.image_roots if root != places.root]
    if places.outside:
        lie = "1 image lies" if places.outside == 1 else f"{places.outside} images lie"
        watcher.said(
            f"{lie} elsewhere than what was indexed, such as {places.example}: no server shows such images, and no refresh "
            f"opens them, until you allow their folder with  evergallery gallery images-from FOLDER"
        )

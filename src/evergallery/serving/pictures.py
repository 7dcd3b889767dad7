"""Pictures that clients have added, kept beside the gallery; and small ones of stored items.

A stored item's URI is opened where it is a file below a root: what the operator has indexed or allowed, or what this module
wrote. URIs that clients give are kept as metadata, under a name of their own, and are never opened. Where an item has a content
hash its file is shown only while it still has that content, and nothing of a file is ever sent but a small picture drawn anew.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evergallery.data.images import Preprocessing, decode, read_bytes, read_pixels
from evergallery.data.places import local_path
from evergallery.data.roots import Roots
from evergallery.errors import InputError, NotFoundError
from evergallery.files import lock, write_atomic
from evergallery.gallery.items import Item

GIVEN_URI = "given_uri"
"""Name of the metadata that hold a URI that a client gave."""
SIZES = (64, 128, 256, 512, 1024)
"""Longest sides of thumbnails: few, so that a client cannot fill the disk with sizes."""
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}


def picture_of(item: Item, roots: Roots) -> Path | None:
    """The file of an item, where it is there and may be opened."""
    if item.uri is None or local_path(item.uri) is None:
        return None
    place = roots.opened(item.uri)
    return Path(place) if place is not None and Path(place).is_file() else None


class Pictures:
    """Files ``images/<hash>.<ext>`` of a workspace, and ``cache/thumbnails``, which may be deleted at any time.

    Args:
        workspace: its directory.
        most_pixels: larger pictures are refused before they are decoded.
    """

    def __init__(self, workspace: Path, most_pixels: int) -> None:
        self._images = workspace / "images"
        self._thumbnails = workspace / "cache" / "thumbnails"
        self._most_pixels = most_pixels

    def open(self, data: bytes) -> Image.Image:
        """The picture in some bytes, upright, as RGB.

        Raises:
            InputError: it is none, or has too many pixels.
        """
        return decode(data, max_pixels=self._most_pixels)

    def pixels(self, data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) of the picture in some bytes that a network sees.

        Raises:
            InputError: it is none, or has too many pixels.
        """
        return read_pixels(data, preprocessing, max_pixels=self._most_pixels)

    def prepare(self) -> None:
        """Open a first picture, which takes longer than all others: the readers of all formats are loaded then."""
        written = io.BytesIO()
        Image.new("RGB", (1, 1)).save(written, "PNG")
        self.open(written.getvalue())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While pictures are kept with their items, or deleted with them: nobody else does either."""
        self._images.mkdir(exist_ok=True)
        with lock(self._images / ".lock", "keeping pictures", wait=10):
            yield

    def place(self, data: bytes, content_hash: str) -> Path:
        """Return where a picture of this content is kept."""
        with Image.open(io.BytesIO(data)) as image:
            suffix = SUFFIXES.get(image.format or "", f".{(image.format or 'image').lower()}")
        return self._images / f"{content_hash}{suffix}"

    def keep(self, data: bytes, path: Path) -> None:
        """Write a picture's bytes as they came to its place, once for each content; durable on return."""
        if not path.is_file():
            write_atomic(path, data)

    def keep_query(self, data: bytes, folder: Path) -> str:
        """Keep a picture that was searched with, so that its results can be marked; returns its SHA-256.

        Raises:
            InputError: it is none.
        """
        self.open(data)
        content = hashlib.sha256(data).hexdigest()
        folder.mkdir(exist_ok=True)
        self.keep(data, folder / self.place(data, content).name)
        return content

    def forget(self, item: Item) -> None:
        """Delete the picture that was kept for an item, which no other item may need."""
        # An address that was imported may be that of another item's picture.
        kept = None if item.uri is None else Path(item.uri)
        if kept is not None and kept.parent == self._images and kept.stem == item.content_hash:
            with suppress(OSError):
                kept.unlink()

    def thumbnail(self, item: Item, size: int, roots: Roots) -> tuple[bytes, str]:
        """A WebP of an item's picture whose longer side is about ``size``, and its entity tag.

        Raises:
            NotFoundError: the picture is gone, or is no longer what was stored.
        """
        side = next((longest for longest in SIZES if longest >= size), SIZES[-1])
        path = picture_of(item, roots)
        if path is None:
            raise NotFoundError(f"The picture of {item.id!r} is not where it was when it was stored.")
        if item.content_hash:
            kept = self._path(item.content_hash, side)
            with suppress(OSError):
                return kept.read_bytes(), _tag(item.content_hash, side)
        try:
            data = read_bytes(path)
            content = hashlib.sha256(data).hexdigest()
            # Content hashes of other tools need not be of a file's bytes; 64 hex digits are.
            if item.content_hash and len(item.content_hash) == 64 and item.content_hash != content:
                raise InputError("it is not the picture that was stored.")
            picture = self.open(data)
        except InputError as error:
            raise NotFoundError(f"The picture of {item.id!r} cannot be shown: {error}") from error
        picture.thumbnail((side, side))
        written = io.BytesIO()
        picture.save(written, "WEBP", quality=80)
        small = written.getvalue()
        # A full disk, or one that cannot be written, costs time and nothing else.
        with suppress(OSError):
            kept = self._path(item.content_hash or content, side)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, small)
        return small, _tag(item.content_hash or content, side)

    def _path(self, content: str, side: int) -> Path:
        name = hashlib.sha256(content.encode()).hexdigest()
        return self._thumbnails / name[:2] / f"{name}-{side}.webp"


def _tag(content: str, side: int) -> str:
    return f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}-{side}"'

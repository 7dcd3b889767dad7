"""What a source holds, known before any image is decoded, and what must be right about it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images import read_bytes
from evergallery.errors import InputError


class StoredImage(Protocol):
    """An image that has not been decoded."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def read(self) -> bytes | NDArray[np.uint8]:
        """Its encoded bytes, or its pixels.

        Raises:
            InputError: the reason why it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path

    @property
    def uri(self) -> str:
        """The absolute path."""
        return str(self.path.absolute())

    def read(self) -> bytes:
        """The bytes of the file."""
        return read_bytes(self.path)


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """An image in an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""

    uri: str
    pixels: NDArray[np.uint8]

    def read(self) -> NDArray[np.uint8]:
        """The pixels."""
        return self.pixels


@dataclass(frozen=True)
class ArrayImages(Sequence[ArrayImage]):
    """Images of one shape in one array (N, H, W) or (N, H, W, 1 | 3 | 4)."""

    uris: tuple[str, ...]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.uris)

    @overload
    def __getitem__(self, index: int) -> ArrayImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[ArrayImage]: ...
    def __getitem__(self, index: int | slice) -> ArrayImage | list[ArrayImage]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return ArrayImage(self.uris[index], self.pixels[index])


@dataclass(frozen=True, eq=False)
class Listing:
    """N images that have not been decoded, and their labels; the fields are those of an image set."""

    images: Sequence[StoredImage]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: NDArray[np.str_] | None = None
    cameras: NDArray[Any] | None = None
    item_ids: tuple[str | None, ...] | None = None


def number(names: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) and sorted class names of N names; -1 for ``None``."""
    classes = tuple(sorted({name for name in names if name is not None}))
    index: dict[str | None, int] = {name: position for position, name in enumerate(classes)}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64), classes


def check_names(classes: Sequence[str], where: str) -> None:
    """Refuse class names that a person would read as one name.

    Raises:
        InputError: two names differ only in case, white space or Unicode normalisation.
    """
    seen: dict[str, str] = {}
    for name in classes:
        folded = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        if folded in seen:
            raise InputError(
                f"{where} has the classes {seen[folded]!a} and {name!a}, which differ only in case, white space or "
                f"Unicode normalisation: give both one name, or names that differ."
            )
        seen[folded] = name


def check_counts(labels: NDArray[np.int64], classes: Sequence[str], minimum: int, where: str, why: str = "") -> None:
    """Refuse a class of fewer than ``minimum`` images.

    Raises:
        InputError: names the first such class.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    short = np.flatnonzero(counts < minimum)
    if len(short):
        others = f" (and {len(short) - 1} more classes)" if len(short) > 1 else ""
        raise InputError(
            f"The class {classes[short[0]]!r} of {where} has {_images(int(counts[short[0]]))}{why}{others}, at least "
            f"{minimum} needed: add images or remove the class."
        )


def _images(count: int) -> str:
    return {0: "no image", 1: "1 image"}.get(count, f"{count} images")

"""The one form in which images are learned from, indexed and measured."""

import hashlib
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evergallery.data.images import UnreadableImage
from evergallery.data.images.sizes import Size, size_of, size_text
from evergallery.data.tasks import choose
from evergallery.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N images of one size with their labels; selections share the pixels.

    Attributes:
        pixels: (M, H, W, 3), M ≥ N, possibly memory-mapped.
        rows: (N,) row of ``pixels`` that holds image i.
        labels: (N,) index into ``classes``; -1 where an image has no label.
        classes: names.
        uris: (N,) where each image came from.
        hashes: (N,) SHA-256 of each image's content: of a file's bytes, or of an array's pixels.
        split: (N,) for instance ``train`` or ``test``; ``None`` where the source has none.
        cameras: (N,) for re-identification, or ``None``.
        item_ids: (N,) or ``None``.
        skipped: what could not be read, and junk.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    uris: tuple[str, ...]
    hashes: tuple[str, ...]
    split: NDArray[np.str_] | None = None
    cameras: NDArray[Any] | None = None
    item_ids: tuple[str | None, ...] | None = None
    skipped: tuple[UnreadableImage, ...] = ()

    def __post_init__(self) -> None:
        for name in ("labels", "uris", "hashes", "split", "cameras", "item_ids"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.rows):
                raise InputError(f"An image set of {len(self.rows)} images has {len(value)} {name}.")

    @classmethod
    def from_arrays(
        cls,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        *,
        uris: Sequence[str] | None = None,
        split: NDArray[np.str_] | None = None,
        originals: NDArray[np.uint8] | None = None,
    ) -> "ImageSet":
        """A set of images in memory.

        Args:
            pixels: (N, H, W, 3).
            labels: (N,) index into ``classes``, or -1.
            classes: names.
            uris: (N,); ``array#0`` and so on by default.
            split: (N,) or ``None``.
            originals: (N, ...) what ``pixels`` were resized from, whose content identifies the images at any size.

        Raises:
            InputError: other pixels than uint8, labels that are none of the classes, classes of one name, or another number of
                one of them.
        """
        pixels, classes = np.asarray(pixels), _names("classes", classes)
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise InputError(f"The pixels have shape {pixels.shape} and type {pixels.dtype}: give (N, H, W, 3), uint8.")
        if len(set(classes)) < len(classes):
            raise InputError("Two of the classes have one name: give each class once.")
        return cls(
            pixels=pixels,
            rows=np.arange(len(pixels)),
            labels=_labels(labels, len(classes)),
            classes=classes,
            uris=_names("uris", uris) if uris is not None else tuple(f"array#{i}" for i in range(len(pixels))),
            hashes=tuple(hash_pixels(image) for image in (pixels if originals is None else originals)),
            split=None if split is None else np.array(_names("split", split), dtype=np.str_),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} images of {size_text(self.size)} pixels, {len(self.classes)} classes)"

    @property
    def size(self) -> Size:
        """Side of the images in pixels, or height and width."""
        return size_of(self.pixels.shape[1:3])

    def batch(self, indices: NDArray[np.int64]) -> "torch.Tensor":
        """Images as a uint8 tensor (B, 3, H, W) in channels_last memory format, copied once."""
        return as_batch(np.take(self.pixels, self.rows[indices], axis=0))

    def select(self, indices: NDArray[np.int64]) -> "ImageSet":
        """The images at ``indices``, in that order, with the same classes.

        Raises:
            InputError: they are no whole numbers, as those of a mask.
        """
        indices = np.asarray(indices)
        if indices.size and indices.dtype.kind not in "iu":
            raise InputError(
                f"The indices are of type {indices.dtype}: give whole numbers, as np.flatnonzero makes them of a mask."
            )
        indices = indices.astype(np.int64, copy=False)
        return replace(
            self,
            rows=self.rows[indices],
            labels=self.labels[indices],
            uris=tuple(self.uris[i] for i in indices),
            hashes=tuple(self.hashes[i] for i in indices),
            split=None if self.split is None else self.split[indices],
            cameras=None if self.cameras is None else self.cameras[indices],
            item_ids=None if self.item_ids is None else tuple(self.item_ids[i] for i in indices),
        )

    def of_classes(self, names: Sequence[str]) -> "ImageSet":
        """Only the images of these classes; labels are renumbered to this order.

        Raises:
            InputError: a class that is not here, or named twice.
        """
        names = choose(self.classes, names)
        known = {name: index for index, name in enumerate(self.classes)}
        number = np.full(len(self.classes) + 1, -1, dtype=np.int64)  # The last entry is for label -1.
        for new, name in enumerate(names):
            number[known[name]] = new
        labels = number[self.labels]
        kept = self.select(np.flatnonzero(labels >= 0))
        return replace(kept, labels=labels[labels >= 0], classes=names)

    def of_split(self, name: str) -> "ImageSet":
        """Only the images of this split, with the same classes.

        Raises:
            InputError: there is no such split; the message lists those there are.
        """
        member = np.zeros(len(self), dtype=bool) if self.split is None else self.split == name
        if not member.any():
            there = "none" if self.split is None else ", ".join(sorted(set(self.split.tolist())))
            raise InputError(f"The images have no split {name!r}: they have {there}.")
        return self.select(np.flatnonzero(member))

    def fingerprint(self) -> str:
        """SHA-256 over contents and label names, whatever the order of the images."""
        pairs = sorted(
            f"{content}:{self.classes[label] if label >= 0 else ''}"
            for content, label in zip(self.hashes, self.labels.tolist(), strict=True)
        )
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()


def _names(what: str, given: Iterable[str]) -> tuple[str, ...]:
    """Strings in their order, as Python has them.

    Raises:
        InputError: one of them is none, or there is one string alone.
    """
    names = () if isinstance(given, str) else tuple(str(name) if isinstance(name, str) else name for name in given)
    if isinstance(given, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"The {what} are {given!r:.80}: give a list of strings.")
    return names


def _labels(given: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Labels (N,) of so many classes.

    Raises:
        InputError: they are no indices of them, and not -1 either.
    """
    labels = np.asarray(given)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise InputError(f"The labels have shape {labels.shape} and type {labels.dtype}: give (N,) whole numbers.")
    if labels.size and not -1 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"The labels go from {labels.min()} to {labels.max()}, and there are {classes} classes: a label is the number of a "
            f"class from 0 on, or -1."
        )
    return labels.astype(np.int64)


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """One set of all images; classes are united by name. Pixels are shared where the sets share theirs.

    Raises:
        InputError: no set, or images of different sizes.
    """
    if not sets:
        raise InputError("There is no image set to concatenate.")
    sizes = {image_set.size for image_set in sets}
    if len(sizes) > 1:
        told = ", ".join(sorted(map(size_text, sizes)))
        raise InputError(f"Images of different sizes {told} cannot be put together: read them at one size.")
    classes = tuple(dict.fromkeys(name for image_set in sets for name in image_set.classes))
    number = {name: index for index, name in enumerate(classes)}
    labels = [
        np.array([*(number[name] for name in image_set.classes), -1], dtype=np.int64)[image_set.labels]
        for image_set in sets
    ]
    longest = max((image_set.pixels for image_set in sets), key=len)
    if all(_begins(image_set.pixels, longest) for image_set in sets):
        pixels, rows = longest, np.concatenate([image_set.rows for image_set in sets])
    else:
        pixels = np.concatenate([image_set.pixels[image_set.rows] for image_set in sets])
        rows = np.arange(len(pixels))
    return ImageSet(
        pixels=pixels,
        rows=rows,
        labels=np.concatenate(labels),
        classes=classes,
        uris=tuple(uri for image_set in sets for uri in image_set.uris),
        hashes=tuple(content for image_set in sets for content in image_set.hashes),
        split=_joined([image_set.split for image_set in sets]),
        cameras=_joined([image_set.cameras for image_set in sets]),
        item_ids=tuple(i for image_set in sets for i in (image_set.item_ids or (None,) * len(image_set)))
        if any(image_set.item_ids for image_set in sets)
        else None,
        skipped=tuple(dict.fromkeys(skipped for image_set in sets for skipped in image_set.skipped)),
    )


def as_batch(pixels: NDArray[np.uint8]) -> "torch.Tensor":
    """Pixels (B, H, W, 3) as a tensor (B, 3, H, W) in channels_last memory format, not copied."""
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def hash_pixels(image: NDArray[np.uint8]) -> str:
    """SHA-256 of an array's shape and pixels."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _begins(part: NDArray[np.uint8], whole: NDArray[np.uint8]) -> bool:
    """Return whether ``part`` is ``whole``, or the same file mapped when it held fewer images."""
    if part is whole:
        return True
    if not (isinstance(part, np.memmap) and isinstance(whole, np.memmap)):
        return False
    # A slice of a map names the file and offset of the map: only a whole map rests on the mapping itself.
    if not (isinstance(part.base, mmap.mmap) and isinstance(whole.base, mmap.mmap)):
        return False
    return (part.filename, part.offset) == (whole.filename, whole.offset) and part.filename is not None


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """All parts in one array, or ``None`` where one of them is missing."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if len(there) == len(parts) else None

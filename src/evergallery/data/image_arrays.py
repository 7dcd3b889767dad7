"""Images in arrays: ``.npz`` files of them, and any array at the size of training."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.columns import text_of
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing, from_array, pixels
from evergallery.data.listing import split_of
from evergallery.data.unpacking import read_npz
from evergallery.errors import InputError
from evergallery.strings.names import natural, normal


def read_arrays(path: Path, preprocessing: Preprocessing, require_labels: bool) -> ImageSet:
    """An ``.npz`` file; integer labels are named by ``names`` where there is one, else by themselves."""
    try:
        arrays, _ = read_npz(path, ("images", "labels", "names", "split"))
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an .npz file of plain arrays ({error}).") from error
    for name in ("images", "labels") if require_labels else ("images",):
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}: it needs images (N, H, W, 3) uint8 and labels (N,).")
    images = arrays["images"]
    labels = arrays.get("labels", np.full(len(images), -1) if images.ndim else np.empty(0, np.int64))
    arrays["labels"] = labels
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise InputError(
            f"{path} has images of shape {images.shape} and type {images.dtype}: they must be (N, H, W), (N, H, W, 1), "
            f"(N, H, W, 3) or (N, H, W, 4), uint8."
        )
    if len(images) == 0:
        raise InputError(f"{path} holds no images.")
    for name in ("labels", "split"):
        if name in arrays and arrays[name].shape != (len(images),):
            raise InputError(f"{path} has {len(images)} images and {name} of shape {arrays[name].shape}: one for each.")
    classes, numbers = _number_labels(path, labels, arrays.get("names"))
    if require_labels and (numbers < 0).any():
        raise InputError(f"{path} has no label for image {int(np.argmax(numbers < 0))}: label it or leave it out.")
    splits = [split_of(text) for text in _texts(path, "split", arrays["split"])] if "split" in arrays else None
    return ImageSet.from_arrays(
        fit_arrays(images, preprocessing),
        numbers,
        classes,
        uris=[f"{path.absolute()}#{index}" for index in range(len(images))],
        split=np.array(splits) if splits is not None else None,
        originals=images,
    )


def fit_arrays(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Images (N, H, W[, C]) as RGB at training size (N, H, W, 3)."""
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    if images.shape[1:] == (*preprocessing.shape, 3) and preprocessing.kept == 1:
        return images
    fitted = np.empty((len(images), *preprocessing.shape, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        fitted[index] = pixels(from_array(image), preprocessing)
    return fitted


def _number_labels(
    path: Path, labels: NDArray[Any], names: NDArray[Any] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if labels.dtype.kind in "iu":
        used = np.unique(labels[labels >= 0])
        if names is not None and len(used) and used[-1] >= len(names):
            raise InputError(f"{path} has the label {used[-1]} but only {len(names)} names: add the missing names.")
        numbers = np.where(labels >= 0, np.searchsorted(used, labels), -1)
        known = None if names is None else _texts(path, "names", names)
        return tuple(str(label) if known is None else known[label] for label in used), numbers
    if labels.dtype.kind in "US":
        texts = _texts(path, "labels", labels)
        found = sorted({text for text in texts if text}, key=natural)
        number = {name: index for index, name in enumerate(found)}
        return tuple(found), np.array([number.get(text, -1) for text in texts], dtype=np.int64)
    raise InputError(f"{path} has labels of type {labels.dtype}: they must be integers or strings.")


def _texts(path: Path, name: str, values: NDArray[Any]) -> list[str]:
    """An array as names; an empty text where it says nothing."""
    try:
        return [normal(text_of(text) or "") for text in values.tolist()]
    except ValueError as error:
        raise InputError(f"{path} has among its {name} {error}: they must be text.") from error

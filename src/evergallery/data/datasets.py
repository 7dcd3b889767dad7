"""Image sets known by name: scikit-learn's digits, generated glyphs, and benchmarks in their published layouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.downloads import flowers102, food101
from evergallery.data.image_arrays import fit_arrays
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Listing
from evergallery.data.pickles import unpickled
from evergallery.data.published import LAYOUTS
from evergallery.data.published_files import complete_root
from evergallery.errors import InputError, MissingExtraError


def digits(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """1 797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("The set 'digits'", "digits") from error
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    uris = [f"digits://{index}" for index in range(len(images))]
    return ImageSet.from_arrays(
        fit_arrays(images, preprocessing), found.target, tuple("0123456789"), uris=uris, originals=images
    )


def glyphs(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """Drawn characters, generated on the spot."""
    from evergallery.data.glyphs import generate

    drawn = generate(size=max(preprocessing.shape))
    return (
        drawn if isinstance(preprocessing.size, int) else replace(drawn, pixels=fit_arrays(drawn.pixels, preprocessing))
    )


def cifar10(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """CIFAR-10 in its Python layout (Krizhevsky 2009)."""
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    root = complete_root("cifar10", data_dir, ["cifar-10-batches-py"], [*batches, "batches.meta"])
    return _cifar(root, _CifarLayout(batches, "labels", "batches.meta", "label_names"), preprocessing)


def cifar100(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """CIFAR-100 in its Python layout, with fine labels (Krizhevsky 2009)."""
    root = complete_root("cifar100", data_dir, ["cifar-100-python"], ["train", "test", "meta"])
    layout = _CifarLayout(["train", "test"], "fine_labels", "meta", "fine_label_names")
    return _cifar(root, layout, preprocessing)


def _published(name: str) -> Callable[[Path | None, Preprocessing], Listing]:
    reader = LAYOUTS[name][0]
    return lambda data_dir, preprocessing: reader(data_dir)


MADE = ("glyphs", "digits")
"""Sets that lie in no folder: drawn on the spot, or part of a package."""
NAMED: dict[str, Callable[[Path | None, Preprocessing], Listing | ImageSet]] = {
    "glyphs": glyphs,
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    **{name: _published(name) for name in LAYOUTS},
    "flowers102": flowers102,
    "food101": food101,
}


@dataclass(frozen=True)
class _CifarLayout:
    """The Python layout of a CIFAR set: its files, and the keys in them.

    Attributes:
        batches: files of images.
        labels: key of their labels.
        meta: file of the class names.
        names: key of those.
    """

    batches: Sequence[str]
    labels: str
    meta: str
    names: str


def _cifar(root: Path, layout: _CifarLayout, preprocessing: Preprocessing) -> ImageSet:
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    splits: list[str] = []
    uris: list[str] = []
    try:
        for batch in layout.batches:
            content = unpickled(root / batch)
            images.append(np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels += content[layout.labels]
            splits += ["test" if batch.startswith("test") else "train"] * len(images[-1])
            uris += [f"{(root / batch).absolute()}#{index}" for index in range(len(images[-1]))]
        names = list(unpickled(root / layout.meta)[layout.names])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{root} is not the Python layout of CIFAR ({error}): download it again.") from error
    if len(labels) != len(uris) or not all(0 <= label < len(names) for label in labels):
        raise InputError(f"{root} has labels that do not fit its images or class names: download it again.")
    originals = np.concatenate(images)
    return ImageSet.from_arrays(
        fit_arrays(originals, preprocessing),
        np.array(labels, dtype=np.int64),
        names,
        uris=uris,
        split=np.array(splits),
        originals=originals,
    )

"""Image sets known by name: scikit-learn's digits, generated glyphs, and benchmarks in their published layouts."""

import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.downloads import flowers102, food101
from evergallery.data.image_arrays import fit_arrays
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Listing
from evergallery.data.published import LAYOUTS, complete_root
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
        fit_arrays(images, preprocessing), found.target, "0123456789", uris=uris, originals=images
    )


def glyphs(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """Drawn characters, generated on the spot."""
    from evergallery.data.glyphs import generate

    return generate(size=preprocessing.size)


def cifar10(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """CIFAR-10 in its Python layout (Krizhevsky 2009)."""
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    root = complete_root("cifar10", data_dir, ["cifar-10-batches-py"], [*batches, "batches.meta"])
    return _cifar(root, batches, "labels", "batches.meta", "label_names", preprocessing)


def cifar100(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """CIFAR-100 in its Python layout, with fine labels (Krizhevsky 2009)."""
    root = complete_root("cifar100", data_dir, ["cifar-100-python"], ["train", "test", "meta"])
    return _cifar(root, ["train", "test"], "fine_labels", "meta", "fine_label_names", preprocessing)


def _published(name: str) -> Callable[[Path | None, Preprocessing], Listing]:
    reader = LAYOUTS[name][0]
    return lambda data_dir, preprocessing: reader(data_dir)


NAMED: dict[str, Callable[[Path | None, Preprocessing], Listing | ImageSet]] = {
    "glyphs": glyphs,
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    **{name: _published(name) for name in LAYOUTS},
    "flowers102": flowers102,
    "food101": food101,
}


def _cifar(
    root: Path, batches: Sequence[str], label_key: str, meta: str, names_key: str, preprocessing: Preprocessing
) -> ImageSet:
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    splits: list[str] = []
    uris: list[str] = []
    try:
        for batch in batches:
            content = _unpickle(root / batch)
            images.append(np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels += content[label_key]
            splits += ["test" if batch.startswith("test") else "train"] * len(images[-1])
            uris += [f"{(root / batch).absolute()}#{index}" for index in range(len(images[-1]))]
        names = [_text(name) for name in _unpickle(root / meta)[names_key]]
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


# A pickle may name any function to be called; arrays need these alone, which NumPy 1 and 2 keep in different modules.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numeric", "_frombuffer"): np.zeros(0).__reduce_ex__(5)[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, lists, dictionaries, strings and numbers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"):
            module = module.rpartition(".")[2]
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which images do not need")
        return _ALLOWED[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # NumPy warns of how files of 2009 write the flags of a type.
            warnings.simplefilter("ignore")
            content = _ArrayUnpickler(file, encoding="bytes").load()
        return {_text(key): value for key, value in content.items()}
    # Damaged pickles raise almost anything.
    except Exception as error:
        raise InputError(f"{path} cannot be read as a batch of CIFAR ({error}): download it again.") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

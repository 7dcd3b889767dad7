"""Image sets known by name: scikit-learn's digits, generated glyphs, and benchmarks in their published layouts."""

import pickle
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_arrays import fit_arrays
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry, Listing
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
    root = _root("cifar10", data_dir, ["cifar-10-batches-py"], [*batches, "batches.meta"])
    return _cifar(root, batches, "labels", "batches.meta", "label_names", preprocessing)


def cifar100(data_dir: Path | None, preprocessing: Preprocessing) -> ImageSet:
    """CIFAR-100 in its Python layout, with fine labels (Krizhevsky 2009)."""
    root = _root("cifar100", data_dir, ["cifar-100-python"], ["train", "test", "meta"])
    return _cifar(root, ["train", "test"], "fine_labels", "meta", "fine_label_names", preprocessing)


def cub200(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """CUB-200-2011 with its train and test split (Wah et al. 2011)."""
    tables = ["images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"]
    root = _root("cub200", data_dir, ["CUB_200_2011"], tables)
    paths, image_classes, names, is_train = (dict(_fields(root / table, 2)) for table in tables)
    try:
        return Listing(
            [
                _entry(
                    root / "images" / path, names[image_classes[image]], "train" if is_train[image] == "1" else "test"
                )
                for image, path in paths.items()
            ]
        )
    except KeyError as error:
        raise InputError(f"The tables in {root} disagree on the number {error}: unpack the set again.") from None


def cars196(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """Cars-196 with its train and test split, as ``cars_annos.mat`` beside ``car_ims`` (Krause et al. 2013)."""
    root = _root("cars196", data_dir, ["cars196"], ["cars_annos.mat", "car_ims"])
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError("The set 'cars196'", "digits") from error
    try:
        content = loadmat(root / "cars_annos.mat", squeeze_me=True)
        names = np.atleast_1d(content["class_names"])
        annotations = np.atleast_1d(content["annotations"])
        paths = tuple(root / str(path) for path in annotations["relative_im_path"])
        labels = tuple(str(names[int(number) - 1]) for number in annotations["class"])
        split = tuple("test" if int(flag) else "train" for flag in annotations["test"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{root / 'cars_annos.mat'} cannot be read ({error}): download it again.") from error
    return Listing([_entry(*row) for row in zip(paths, labels, split, strict=True)])


def sop(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """Stanford Online Products with its train and test split (Song et al. 2016)."""
    root = _root("sop", data_dir, ["Stanford_Online_Products"], ["Ebay_train.txt", "Ebay_test.txt"])
    rows = [(split, row) for split in ("train", "test") for row in _fields(root / f"Ebay_{split}.txt", 4)[1:]]
    return Listing([_entry(root / path, name, split) for split, (_, name, _, path) in rows])


def market1501(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """Market-1501 with the splits train, query and gallery, and its cameras (Zheng et al. 2015).

    Junk (identity -1) is left out; distractors are the class ``0000``, which only the gallery holds.
    """
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    root = _root("market1501", data_dir, ["Market-1501-v15.09.15", "Market-1501"], list(folders.values()))
    entries: list[Entry] = []
    for split, folder in folders.items():
        for path in sorted((root / folder).glob("[!.]*.jpg")):
            found = re.match(r"(-1|\d{4})_c(\d+)s\d+_", path.name)
            if found is None:
                raise InputError(f"{path} is not named like 0002_c1s1_000451_03.jpg: remove it from the set.")
            if found[1] != "-1":
                entries.append(_entry(path, found[1], split, found[2]))
    return Listing(entries)


NAMED: dict[str, Callable[[Path | None, Preprocessing], Listing | ImageSet]] = {
    "glyphs": glyphs,
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cub200": cub200,
    "cars196": cars196,
    "sop": sop,
    "market1501": market1501,
}


def _entry(path: Path, label: str, split: str, camera: str | None = None) -> Entry:
    return Entry(str(path.absolute()), label, split, camera)


def _root(name: str, data_dir: Path | None, candidates: Sequence[str], needed: Sequence[str]) -> Path:
    """The folder that holds everything ``needed``: a candidate below ``data_dir``, or ``data_dir`` itself."""
    if data_dir is None:
        raise InputError(
            f"The set {name!r} is read from disk: say with data_dir which folder holds "
            f"{candidates[0]}/ with {', '.join(needed)}."
        )
    roots = [*(data_dir / candidate for candidate in candidates), data_dir]
    for root in roots:
        if all((root / entry).exists() for entry in needed):
            return root
    root = next((root for root in roots[:-1] if root.is_dir()), roots[0])
    missing = [entry for entry in needed if not (root / entry).exists()]
    raise InputError(
        f"The set {name!r} is not complete: {root} should hold {', '.join(needed)}, and lacks {', '.join(missing)}."
    )


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


def _fields(path: Path, count: int) -> list[list[str]]:
    """The lines of a table, each split at white space into ``count`` fields."""
    try:
        rows = [
            line.split(maxsplit=count - 1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): download it again.") from error
    for row in rows:
        if len(row) != count:
            raise InputError(f"{path} has the line {' '.join(row)!r} without {count} fields: download it again.")
    return rows

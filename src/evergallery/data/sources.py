"""Images from folders, tables, array files, single files and named sets, into one image set."""

import csv
import hashlib
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.cache import PixelCache
from evergallery.data.image_set import ImageSet
from evergallery.data.images import SUFFIXES, Preprocessing, Skipped, decode, from_array, pixels, read_bytes
from evergallery.errors import InputError, MissingExtraError

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "query": "query", "gallery": "gallery"}  # fmt: skip
TABLE_SUFFIXES = (".csv", ".parquet", ".pq")
DECODING_THREADS = 4
DECODING_BLOCK = 256


@dataclass(frozen=True)
class Listing:
    """Image files with what is known of each, before any of them is opened. All lists have N entries."""

    paths: tuple[Path, ...]
    labels: tuple[str | None, ...]
    split: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    item_ids: tuple[str | None, ...] | None = None


def load(
    source: str | Path,
    preprocessing: Preprocessing,
    *,
    cache: Path | None = None,
    data_dir: Path | None = None,
    require_labels: bool = True,
    minimum_per_class: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read images.

    Args:
        source: one of

            - a folder with a folder per class, or ``train``/``val``/``test``/``query``/``gallery`` folders of such;
              without class folders only where labels are not required;
            - a ``.csv`` or ``.parquet`` table with ``path,label[,split,camera,item_id]``, paths relative to the table;
            - an ``.npz`` file with ``images`` (N, H, W[, 1 | 3 | 4]) uint8, ``labels`` and optionally ``names``,
              ``split``;
            - an image file, where labels are not required;
            - the name of a set: see ``evergallery.data.datasets.NAMED``.
        preprocessing: size and fit of the pixels.
        cache: directory in which decoded images are kept, so that none is decoded twice.
        data_dir: where named sets lie.
        require_labels: whether every image must have a label.
        minimum_per_class: fewest images that a class may have.
        on_progress: called with images done and in all.

    Returns:
        The images in a fixed order, with the files that could not be read in ``skipped``.

    Raises:
        InputError: what cannot be used, in a sentence, before anything is decoded where that can be known.
        MissingExtraError: a Parquet table without pyarrow, or ``digits`` without scikit-learn.
    """
    from evergallery.data.datasets import NAMED

    path = Path(source).expanduser()
    if ".." in path.parts:
        path = path.resolve()  # An address that is kept should not lead through where the command was typed.
    if str(source).lower() in NAMED and not path.exists():
        found = NAMED[str(source).lower()](data_dir, preprocessing)
    elif not path.exists():
        raise InputError(f"There is no {path}: name a folder, a table, an .npz file, or one of {', '.join(NAMED)}.")
    elif path.is_dir():
        found = list_folder(path, require_labels)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        found = list_table(path, require_labels)
    elif path.suffix.lower() == ".npz":
        found = read_arrays(path, preprocessing, require_labels)
    elif path.suffix.lower() in SUFFIXES and not require_labels:
        found = Listing((path.absolute(),), (None,))
    else:
        raise InputError(
            f"{path} is no source of {'labelled ' if require_labels else ''}images: "
            f"name a folder, a .csv or .parquet table, or an .npz file."
        )
    if isinstance(found, Listing):
        _check_classes(found.labels, minimum_per_class, str(source))
        images = read_listing(found, preprocessing, cache, on_progress)
        if len(images) == 0:
            raise InputError(
                f"None of the {len(found.paths)} images of {source} can be read, the first: {_first(images)}"
            )
    else:
        images = found
    named = [images.classes[label] if label >= 0 else None for label in images.labels.tolist()]
    _check_classes(named, minimum_per_class, str(source))
    return images


def list_folder(folder: Path, require_labels: bool) -> Listing:
    """A folder per class, below folders per split where there are such; or loose images without labels."""
    try:
        children = sorted(child for child in folder.iterdir() if _visible(child))
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}): check its permissions.") from error
    directories = [child for child in children if child.is_dir()]
    if directories and all(child.name.lower() in SPLITS for child in directories):
        parts = [(SPLITS[child.name.lower()], list_folder(child, require_labels)) for child in directories]
        return Listing(
            tuple(path for _, part in parts for path in part.paths),
            tuple(label for _, part in parts for label in part.labels),
            tuple(split for split, part in parts for _ in part.paths),
        )
    paths: list[Path] = []
    labels: list[str | None] = []
    for directory in directories:
        files = sorted(_images_below(directory))
        if not files and require_labels:
            raise InputError(f"The class {directory.name!r} of {folder} has no image: add images or remove its folder.")
        paths += files
        labels += [directory.name] * len(files)
    loose = [child for child in children if child.suffix.lower() in SUFFIXES and child.is_file()]
    if not require_labels:
        paths += loose
        labels += [None] * len(loose)
    elif loose and paths:
        raise InputError(f"{loose[0]} lies beside the class folders: move it into one of them.")
    if not paths:
        if loose:
            raise InputError(f"{folder} holds {len(loose)} images but no folder per class: make FOLDER/CLASS/IMAGE.")
        raise InputError(f"{folder} holds no images: expected FOLDER/CLASS/IMAGE.")
    return Listing(tuple(path.absolute() for path in paths), tuple(labels))


def list_table(path: Path, require_labels: bool) -> Listing:
    """A CSV or Parquet table with the columns ``path``, ``label`` and optionally ``split``, ``camera``, ``item_id``."""
    columns = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    wanted = ("path", "label") if require_labels else ("path",)
    for name in wanted:
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}: it has {', '.join(columns) or 'none'}.")
    files = columns["path"]
    if not files:
        raise InputError(f"{path} has no rows.")
    for row, file in enumerate(files, 1):
        if not file:
            raise InputError(f"{path} has no path in row {row}.")
    labels = columns.get("label", [None] * len(files))
    if require_labels:
        for row, label in enumerate(labels, 1):
            if not label:
                raise InputError(f"{path} has no label in row {row} ({files[row - 1]}): fill it in or drop the row.")
    identifiers = columns.get("item_id")
    if identifiers is not None:
        given = [one for one in identifiers if one]
        if len(set(given)) != len(given):
            seen: set[str] = set()
            twice = next(one for one in given if one in seen or seen.add(one))  # type: ignore[func-returns-value]
            raise InputError(f"{path} has the item_id {twice!r} twice: an id names one item.")
    splits = columns.get("split")
    return Listing(
        tuple((path.parent / str(file)).absolute() for file in files),
        tuple(label or None for label in labels),
        tuple(SPLITS.get(str(split).lower(), str(split)) for split in splits) if splits is not None else None,
        tuple(str(camera) for camera in columns["camera"]) if "camera" in columns else None,
        tuple(one or None for one in identifiers) if identifiers is not None else None,
    )


def read_arrays(path: Path, preprocessing: Preprocessing, require_labels: bool) -> ImageSet:
    """An ``.npz`` file; integer labels are named by ``names`` where there is one, else by themselves."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("images", "labels", "names", "split") if name in file.files}
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
    splits = [SPLITS.get(str(one).lower(), str(one)) for one in arrays["split"]] if "split" in arrays else None
    return ImageSet.from_arrays(
        fit_arrays(images, preprocessing),
        numbers,
        classes,
        uris=[f"{path.absolute()}#{index}" for index in range(len(images))],
        split=np.array(splits) if splits is not None else None,
        originals=images,
    )


def fit_arrays(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Images (N, H, W[, C]) as RGB at training size (N, S, S, 3)."""
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    size = preprocessing.size
    if images.shape[1:] == (size, size, 3):
        return images
    fitted = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        fitted[index] = pixels(from_array(image), preprocessing)
    return fitted


def read_listing(
    listing: Listing, preprocessing: Preprocessing, cache: Path | None, on_progress: Callable[[int, int], None] | None
) -> ImageSet:
    """Decode the files of a listing; what cannot be read is skipped and named."""
    store = PixelCache(cache, preprocessing) if cache is not None else None
    total = len(listing.paths)
    hashes: list[str] = []
    kept: list[int] = []
    skipped: list[Skipped] = []
    memory: list[NDArray[np.uint8]] = []
    memory_rows: dict[str, int] = {}

    def known(content: str) -> bool:
        return content in memory_rows or (store is not None and int(store.rows([content])[0]) >= 0)

    with ThreadPoolExecutor(DECODING_THREADS) as threads, store.writing() if store is not None else nullcontext():
        for start in range(0, total, DECODING_BLOCK):
            block = listing.paths[start : start + DECODING_BLOCK]
            new: dict[str, NDArray[np.uint8]] = {}
            opened = threads.map(lambda path: _open(path, preprocessing, known), block)
            for index, (content, image) in enumerate(opened, start):
                if isinstance(image, str):
                    skipped.append(Skipped(str(listing.paths[index]), image))
                    continue
                if image is not None:
                    new.setdefault(content, image)
                kept.append(index)
                hashes.append(content)
            if new and store is not None:
                store.add(list(new), np.stack(list(new.values())))
            elif new:
                memory_rows.update((content, len(memory) + i) for i, content in enumerate(new))
                memory += new.values()
            if on_progress:
                on_progress(start + len(block), total)
    if store is not None:
        array, rows = store.array(), store.rows(hashes)
    else:
        array = np.stack(memory) if memory else np.empty((0, preprocessing.size, preprocessing.size, 3), dtype=np.uint8)
        rows = np.array([memory_rows[one] for one in hashes], dtype=np.int64)
    names = [listing.labels[index] for index in kept]
    classes = tuple(sorted({name for name in listing.labels if name is not None}, key=_natural))
    number = {name: index for index, name in enumerate(classes)}
    return ImageSet(
        pixels=array,
        rows=rows,
        labels=np.array([-1 if name is None else number[name] for name in names], dtype=np.int64),
        classes=classes,
        uris=tuple(str(listing.paths[index]) for index in kept),
        hashes=tuple(hashes),
        split=np.array([listing.split[index] for index in kept]) if listing.split else None,
        cameras=np.array([listing.cameras[index] for index in kept]) if listing.cameras else None,
        item_ids=tuple(listing.item_ids[index] for index in kept) if listing.item_ids else None,
        skipped=tuple(skipped),
    )


def _open(
    path: Path, preprocessing: Preprocessing, known: Callable[[str], bool]
) -> tuple[str, NDArray[np.uint8] | str | None]:
    """The SHA-256 of a file with its pixels, with ``None`` where they are known, or with the reason why not."""
    # The bytes go before the next file is read: a block of photographs would fill gigabytes.
    content = ""
    try:
        data = read_bytes(path)
        content = hashlib.sha256(data).hexdigest()
        return content, None if known(content) else pixels(decode(data), preprocessing)
    except InputError as error:
        return content, str(error)


def _check_classes(labels: Sequence[str | None], minimum: int, source: str) -> None:
    counts: dict[str, int] = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    alike: dict[str, str] = {}
    for name in counts:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if alike.setdefault(key, name) != name:
            raise InputError(
                f"{source} has two classes {alike[key]!r} and {name!r} that differ only in case or spaces: rename one."
            )
    few = [(name, count) for name, count in counts.items() if count < minimum]
    if few:
        others = f" and {len(few) - 1} more classes" if len(few) > 1 else ""
        raise InputError(
            f"The class {few[0][0]!r} of {source} has {few[0][1]} readable image{'s' * (few[0][1] != 1)}{others}: "
            f"a class needs at least {minimum}; add images or leave the class out."
        )


def _number_labels(
    path: Path, labels: NDArray[Any], names: NDArray[Any] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if labels.dtype.kind in "iu":
        used = np.unique(labels[labels >= 0])
        if names is not None and len(used) and used[-1] >= len(names):
            raise InputError(f"{path} has the label {used[-1]} but only {len(names)} names: add the missing names.")
        numbers = np.where(labels >= 0, np.searchsorted(used, labels), -1)
        return tuple(str(one if names is None else names[one]) for one in used), numbers
    if labels.dtype.kind in "US":
        found = sorted({str(one) for one in labels if one}, key=_natural)
        number = {name: index for index, name in enumerate(found)}
        return tuple(found), np.array([number.get(str(one), -1) for one in labels], dtype=np.int64)
    raise InputError(f"{path} has labels of type {labels.dtype}: they must be integers or strings.")


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            fields = [name.strip() for name in reader.fieldnames or ()]
            if len(set(fields)) != len(fields):
                raise InputError(f"{path} has two columns of one name among {', '.join(fields)}: rename one.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a UTF-8 CSV table ({error}).") from error
    return {name: [(list(row.values())[index] or "").strip() for row in rows] for index, name in enumerate(fields)}


def _read_parquet(path: Path) -> dict[str, list[str]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingExtraError("Reading a Parquet table", "parquet") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read as a Parquet table ({str(error).splitlines()[0]}).") from error
    return {
        name: ["" if value is None else str(value) for value in table.column(name).to_pylist()]
        for name in table.column_names
    }


def _images_below(folder: Path) -> Iterator[Path]:
    for directory, below, names in os.walk(folder, onerror=_refuse):
        below[:] = filter(_visible_name, below)
        for path in (Path(directory, name) for name in names):
            if _visible(path) and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _refuse(error: OSError) -> None:
    raise InputError(
        f"The folder {error.filename} cannot be read ({error.strerror}): check its permissions."
    ) from error


def _visible(path: Path) -> bool:
    return _visible_name(path.name)


def _visible_name(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers in numeric order before words in alphabetic order."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _first(images: ImageSet) -> str:
    return f"{images.skipped[0].uri}: {images.skipped[0].reason}" if images.skipped else "unknown"

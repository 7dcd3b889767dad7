"""Images from folders, tables, array files, single files and named sets, into one image set."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from evergallery.data.cache import PixelCache
from evergallery.data.datasets import NAMED
from evergallery.data.image_arrays import read_arrays
from evergallery.data.image_set import ImageSet
from evergallery.data.images import SUFFIXES, Preprocessing, UnreadableImage, read_pixels
from evergallery.data.known_sets import layout_of, require_no_known_set
from evergallery.data.listing import Entry, Listing, list_folder, list_table, split_among
from evergallery.data.places import is_there, local_path, read
from evergallery.data.tables import TABLE_SUFFIXES
from evergallery.data.tasks import ClassChoice, ClassGroup, choose, listed_names
from evergallery.errors import InputError, did_you_mean, require_named
from evergallery.strings.names import natural, normal

DECODING_THREADS = 4
DECODING_BLOCK = 256
TESTED = ("test", "query", "gallery")
"""Splits that nothing is learned from."""


def load(
    source: str | Path,
    preprocessing: Preprocessing,
    *,
    cache: Path | None = None,
    data_dir: Path | None = None,
    require_labels: bool = True,
    minimum_per_class: int = 1,
    splits: Sequence[str] = (),
    choice: ClassChoice | None = None,
    watched: Callable[[Listing], Listing] = lambda listing: listing,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read images.

    Args:
        source: one of

            - a folder with a folder per class, or ``train``/``val``/``test``/``query``/``gallery`` folders of such;
              without class folders only where labels are not required; or the folder of a set in its published layout,
              see ``evergallery.data.known_sets.FORMS``, where they are;
            - a ``.csv`` or ``.parquet`` table with ``path,label[,split,camera,item_id]``, paths relative to the table;
            - an ``.npz`` file with ``images`` (N, H, W[, 1 | 3 | 4]) uint8, ``labels`` and optionally ``names``,
              ``split``;
            - an image file, where labels are not required;
            - the name of a set: see ``evergallery.data.datasets.NAMED``;
            - folder, table or image as a URL that fsspec reads, such as ``s3://bucket/folder``.
        preprocessing: size and fit of the pixels.
        cache: directory in which decoded images are kept, so that none is decoded twice.
        data_dir: where named sets lie.
        require_labels: whether every image must have a label.
        minimum_per_class: fewest images that a class may have, of those that may be learned from where there are splits.
        splits: that are to be there.
        choice: only these of the classes that there are training images of; of a listing, no other image is opened.
        watched: sees the entries of a listing before any image is opened.
        on_progress: called with images done and in all.

    Returns:
        The images in a fixed order, with the files that could not be read in ``skipped``.

    Raises:
        InputError: what cannot be used, in a sentence, before anything is decoded where that can be known.
        MissingExtraError: a Parquet table without pyarrow, or ``digits`` without scikit-learn.
    """
    required = Requirements(require_labels, minimum_per_class, tuple(splits), choice)
    return prepare(source, preprocessing, required, Decoding(cache, watched, on_progress), data_dir)()


@dataclass(frozen=True)
class Requirements:
    """Requirements that images have to meet; see ``load``.

    Raises:
        InputError: no class is chosen.
    """

    labels: bool = True
    minimum_per_class: int = 1
    splits: tuple[str, ...] = ()
    choice: ClassChoice | None = None
    any_of: tuple[str, ...] = ()
    """Classes one of which is to be there, at least."""
    check_entries: Callable[[Sequence[Entry]], None] = lambda _: None
    """Refuses what the names of files already tell."""
    every_split: bool = True
    """Demands an image that can be read of each split; or else of that which is learned from, alone."""

    def __post_init__(self) -> None:
        if self.choice is not None and not isinstance(self.choice, ClassGroup) and len(self.choice) == 0:
            raise InputError("No class is chosen: name one at least, or leave the choice out for all of them.")


@dataclass(frozen=True)
class Decoding:
    """The way in which images are decoded, and who hears of it; see ``load``."""

    cache: Path | None = None
    watched: Callable[[Listing], Listing] = lambda listing: listing
    on_progress: Callable[[int, int], None] | None = None


def prepare(
    source: str | Path,
    preprocessing: Preprocessing,
    required: Requirements,
    decoding: Decoding,
    data_dir: Path | None = None,
) -> Callable[[], ImageSet]:
    """Find images, and refuse what their names already tell; what is returned decodes them.

    Arguments and errors are those of ``load``. What only decoding shows is refused by the function that is returned.
    """
    minimum, choice = required.minimum_per_class, required.choice
    found = find(source, preprocessing, data_dir=data_dir, require_labels=required.labels)
    if not isinstance(found, Listing):
        require_any(required.any_of, found.classes)
        chosen = of_choice(found, choice)
        check_classes(_labels_and_splits(chosen), minimum, str(source))
        return lambda: chosen
    listed, refused = decoding.watched(found).in_order()
    check_names((entry.label for entry in listed), str(source))
    known = {entry.split for entry in listed if entry.split is not None}
    for name in required.splits:
        split_among(name, known)
    require_any(required.any_of, (entry.label for entry in listed))
    entries = _of_choice(listed, choice)
    check_classes(((entry.label, entry.split) for entry in entries), minimum, str(source))
    required.check_entries(entries)
    _require_files(entries, required, str(source))

    def decode() -> ImageSet:
        images = read_entries(entries, preprocessing, decoding.cache, decoding.on_progress)
        images = replace(images, skipped=(*refused, *images.skipped))
        if entries and len(images) == 0:
            raise InputError(
                f"None of the {len(entries)} images of {source} can be read, the first: {_first_reason(images)}"
            )
        _check_splits(entries, images, required, str(source))
        check_classes(_labels_and_splits(images), minimum, str(source))
        return images if choice is None else images.of_classes(_in_order(choice, images.classes))

    return decode


def require_any(names: Sequence[str], labels: Iterable[str | None]) -> None:
    """Refuse names of which none is a label; of images without labels nothing is known.

    Raises:
        InputError: there are labels, and none of them is named.
    """
    there = sorted({label for label in labels if label is not None}, key=natural)
    if names and there and not set(names) & set(there):
        raise InputError(f"None of the images is of {listed_names(names)}: they are of {listed_names(there)}.")


def of_choice(images: ImageSet, choice: ClassChoice | None) -> ImageSet:
    """The images of the chosen classes, of those that there are training images of; all images by default.

    Raises:
        InputError: the choice does not fit the classes.
    """
    if choice is None:
        return images
    learned = _learned(_labels_and_splits(images))
    return images.of_classes(choose([name for name in images.classes if name in learned], choice))


def _of_choice(entries: Sequence[Entry], choice: ClassChoice | None) -> Sequence[Entry]:
    """Files of the chosen classes, before any of them is opened; see ``of_choice``."""
    if choice is None:
        return entries
    learned = _learned((entry.label, entry.split) for entry in entries)
    chosen = set(choose(sorted(learned, key=natural), choice))
    return [entry for entry in entries if entry.label in chosen]


def _learned(labels: Iterable[tuple[str | None, str | None]]) -> set[str]:
    """The classes that there are training images of, where there are splits; else all."""
    pairs = list(labels)
    has_splits = all(split is not None for _, split in pairs)
    return {label for label, split in pairs if label is not None and (split == "train" or not has_splits)}


def _in_order(choice: ClassChoice, classes: Sequence[str]) -> Sequence[str]:
    """Classes in the order in which they were named."""
    return classes if isinstance(choice, ClassGroup) else [name for name in choice if name in set(classes)]


def _labels_and_splits(images: ImageSet) -> Iterator[tuple[str | None, str | None]]:
    """The label and the split of each image, where it has them."""
    splits: list[str | None] = images.split.tolist() if images.split is not None else [None] * len(images)
    for label, split in zip(images.labels.tolist(), splits, strict=True):
        yield images.classes[label] if label >= 0 else None, split


def find(
    source: str | Path,
    preprocessing: Preprocessing,
    *,
    data_dir: Path | None = None,
    require_labels: bool = True,
    metadata: Sequence[str] = (),
) -> ImageSet | Listing:
    """The images of a source: those of array files and some named sets, or else where they are, to be gone through once.

    Args:
        source: as for ``load``.
        preprocessing: size and fit of the pixels of arrays.
        data_dir: where named sets lie.
        require_labels: whether every image must have a label.
        metadata: columns of a table that describe its items.

    Raises:
        InputError: there is no such source, or it has no columns. What is wrong inside a listing comes out as it is gone
            through.
    """
    require_named("the source of images", source)
    path = local_path(source)
    if path is None:
        name = str(source).partition("?")[0].rstrip("/")
    else:
        path = path.expanduser()
        if ".." in path.parts:
            path = path.resolve()  # An address that is kept should not lead through where the command was typed.
        name = str(path)
    suffix = "" if path is not None and path.is_dir() else PurePosixPath(name).suffix.lower()
    if metadata and suffix not in TABLE_SUFFIXES:
        raise InputError(f"{source} has no columns that could be metadata: name a .csv or .parquet table.")
    # Where it is said where named sets lie, a folder of the same name is one of them.
    if str(source).lower() in NAMED and (data_dir is not None or not Path(source).exists()):
        return NAMED[str(source).lower()](data_dir, preprocessing)
    if path is not None and not path.exists():
        near = did_you_mean(str(source), NAMED) or f" Sets with a name are {', '.join(NAMED)}."
        raise InputError(f"There is no {path}: name a folder, a table or an .npz file.{near}")
    if suffix in TABLE_SUFFIXES:
        return list_table(str(source) if path is None else name, require_labels, metadata)
    if suffix == ".npz" and path is not None:
        return read_arrays(path, preprocessing, require_labels)
    if suffix in SUFFIXES and not require_labels:
        return Listing([Entry(str(source) if path is None else str(path.absolute()))])
    if path is None and suffix not in (*SUFFIXES, ".npz"):
        return list_folder(name, require_labels)
    if path is not None and path.is_dir():
        layout = layout_of(path) if require_labels else None
        if layout is not None:
            return NAMED[layout](path, preprocessing)  # Its folders are not classes, and its split is published.
        if require_labels:
            require_no_known_set(path)
        return list_folder(name if path.is_absolute() else str(path.absolute()), require_labels)
    raise InputError(
        f"{name} is no source of {'labelled ' if require_labels else ''}images: "
        f"name a folder, a .csv or .parquet table, or an .npz file."
    )


def folder_at(source: str | Path) -> str | None:
    """The address that the images of a folder have before their names; ``None`` of a source that is no folder."""
    path = local_path(source)
    if path is None:
        return (
            str(source).rstrip("/")
            if PurePosixPath(str(source)).suffix.lower() not in (*SUFFIXES, *TABLE_SUFFIXES)
            else None
        )
    path = path.expanduser()
    path = path.resolve() if ".." in path.parts else path.absolute()
    return str(path) if path.is_dir() else None


def read_entries(
    entries: Sequence[Entry],
    preprocessing: Preprocessing,
    cache: Path | None,
    on_progress: Callable[[int, int], None] | None,
) -> ImageSet:
    """Decode the files of a listing; what cannot be read is skipped and named."""
    decoded, total = _DecodedImages(cache, preprocessing), len(entries)
    hashes: list[str] = []
    kept: list[Entry] = []
    skipped: list[UnreadableImage] = []
    with ThreadPoolExecutor(DECODING_THREADS) as threads, decoded.writing():
        for start in range(0, total, DECODING_BLOCK):
            block = entries[start : start + DECODING_BLOCK]
            new: dict[str, NDArray[np.uint8]] = {}
            opened = threads.map(lambda entry: _open(entry, preprocessing, decoded.has), block)
            for entry, (content, image) in zip(block, opened, strict=True):
                if isinstance(image, str):
                    skipped.append(UnreadableImage(entry.uri, image))
                    continue
                if image is not None:
                    new.setdefault(content, image)
                kept.append(entry)
                hashes.append(content)
            decoded.add(new)
            if on_progress:
                on_progress(start + len(block), total)
    array, rows = decoded.rows(hashes)
    classes = tuple(sorted({entry.label for entry in entries if entry.label is not None}, key=natural))
    number = {name: index for index, name in enumerate(classes)}
    return ImageSet(
        pixels=array,
        rows=rows,
        labels=np.array([-1 if entry.label is None else number[entry.label] for entry in kept], dtype=np.int64),
        classes=classes,
        uris=tuple(entry.uri for entry in kept),
        hashes=tuple(hashes),
        split=_column([entry.split for entry in kept]),
        cameras=_column([entry.camera for entry in kept]),
        item_ids=tuple(entry.item_id for entry in kept) if any(entry.item_id for entry in entries) else None,
        skipped=tuple(skipped),
    )


class _DecodedImages:
    """Decoded images by the hash of their content: in a cache on disk where there is one, else in memory.

    Args:
        cache: directory of the cache.
        preprocessing: how images are decoded.
    """

    def __init__(self, cache: Path | None, preprocessing: Preprocessing) -> None:
        self._cache = PixelCache(cache, preprocessing) if cache is not None else None
        self._memory: dict[str, NDArray[np.uint8]] = {}
        self._shape = (*preprocessing.shape, 3)

    def has(self, content: str) -> bool:
        """Return whether an image is there, by the hash of its content."""
        return content in self._memory or (self._cache is not None and int(self._cache.rows([content])[0]) >= 0)

    def writing(self) -> AbstractContextManager[None]:
        """The time in which ``add`` may be called."""
        return self._cache.writing() if self._cache is not None else nullcontext()

    def add(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Keep images (H, W, 3) that are not there yet."""
        if self._cache is None:
            self._memory.update(images)
        elif images:
            self._cache.add(list(images), np.stack(list(images.values())))

    def rows(self, hashes: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All images (M, H, W, 3), and the row (N,) of each of these."""
        if self._cache is not None:
            return self._cache.array(), self._cache.rows(hashes)
        images = list(self._memory.values())
        array = np.stack(images) if images else np.empty((0, *self._shape), dtype=np.uint8)
        row = {content: index for index, content in enumerate(self._memory)}
        return array, np.array([row[content] for content in hashes], dtype=np.int64)


def _column(values: Sequence[str | None]) -> NDArray[np.str_] | None:
    """An array, or ``None`` where the source has no such column."""
    return None if any(value is None for value in values) else np.array(values, dtype=np.str_)


def _open(
    entry: Entry, preprocessing: Preprocessing, known: Callable[[str], bool]
) -> tuple[str, NDArray[np.uint8] | str | None]:
    """The content hash of an image with its pixels, with ``None`` where they are known, or with the reason why not."""
    # The bytes go before the next file is read: a block of photographs would fill gigabytes.
    content = ""
    try:
        data = read(entry.uri)
        content = content_of(entry, data)
        if known(content):
            return content, None
        return content, read_pixels(data, preprocessing, part=entry.part)
    except InputError as error:
        return content, str(error)


def content_of(entry: Entry, data: bytes) -> str:
    """The SHA-256 of an image's file, as 64 hex digits; where a part of it is looked at, the part is in it."""
    content = hashlib.sha256(data).hexdigest()
    return content if entry.part is None else hashlib.sha256(f"{content}:{entry.part}".encode()).hexdigest()


def check_classes(labels: Iterable[tuple[str | None, str | None]], minimum: int, source: str) -> None:
    """Refuse classes whose names differ only in case or spaces, or that have too few images.

    Names that are read differently are different: ``m2`` and ``m²``, ``straße`` and ``strasse``. An image of a split that is
    only asked for or found, such as ``test``, does not count, and a class of such images alone may have any number.

    Args:
        labels: label and split of each image.
        minimum: of the images of a class.
        source: for the message.

    Raises:
        InputError: there is such a class.
    """
    counts: dict[str, int] = {}
    names: dict[str, None] = {}
    for label, split in labels:
        if label is not None:
            names[label] = None
            if split not in TESTED:
                counts[label] = counts.get(label, 0) + 1
    check_names(names, source)
    few = [(name, count) for name, count in counts.items() if count < minimum]
    if few:
        others = f" and {len(few) - 1} more classes" if len(few) > 1 else ""
        raise InputError(
            f"The class {few[0][0]!r} of {source} has {few[0][1]} readable image{'s' * (few[0][1] != 1)}{others}: "
            f"a class needs at least {minimum}; add images or leave the class out."
        )


def _require_files(entries: Sequence[Entry], required: Requirements, source: str) -> None:
    """Refuse a listing of files of which a whole split is not there, as where an archive is still packed.

    Raises:
        InputError: none of a split is there.
    """
    by_split: dict[str | None, list[str]] = {}
    for entry in entries:
        by_split.setdefault(entry.split, []).append(entry.uri)
    for split, addresses in by_split.items():
        if (required.every_split or split in (None, "train")) and not any(map(is_there, addresses)):
            part = source if split is None else f"{source}'s split {split!r}"
            raise InputError(
                f"None of the {len(addresses)} images of {part} is there, the first should be {addresses[0]}: unpack or copy "
                f"them to that folder."
            )


def _check_splits(entries: Sequence[Entry], images: ImageSet, required: Requirements, source: str) -> None:
    """Refuse a set of which a whole split is lost: what is tested on would be cut out of another one.

    Raises:
        InputError: no image of one can be read.
    """
    if images.split is None:
        return
    for name in sorted({entry.split for entry in entries if entry.split} - set(images.split.tolist())):
        if required.every_split or name == "train":
            lost = {entry.uri for entry in entries if entry.split == name}
            first = next(skipped for skipped in images.skipped if skipped.uri in lost)
            raise InputError(
                f"None of the {len(lost)} images of {source}'s split {name!r} can be read, the first: {first}"
            )


def check_names(labels: Iterable[str | None], source: str) -> None:
    """Refuse names of classes that differ only in case or spaces.

    Raises:
        InputError: there are two.
    """
    alike: dict[str, str] = {}
    for name in dict.fromkeys(label for label in labels if label is not None):
        key = " ".join(normal(name).lower().split())
        if alike.setdefault(key, name) != name:
            raise InputError(
                f"{source} has two classes {alike[key]!r} and {name!r} that differ only in case or spaces: rename one."
            )


def _first_reason(images: ImageSet) -> str:
    return str(images.skipped[0]) if images.skipped else "unknown"

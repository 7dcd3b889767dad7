"""Which images there are, before any of them is opened: folders and tables, read entry by entry."""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from evergallery.data.images import SUFFIXES
from evergallery.data.places import Child, children, join, local_path, opened
from evergallery.errors import InputError, MissingExtraError

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "query": "query", "gallery": "gallery"}  # fmt: skip
TABLE_SUFFIXES = (".csv", ".parquet", ".pq")
COLUMNS = ("path", "label", "split", "camera", "item_id")
NAME = "[A-Za-z0-9_-]+"
"""What metadata may be called in a gallery."""
ROWS = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """An image file and what is known of it.

    Attributes:
        uri: a path on this machine, or a URL.
        label: its class.
        split: for instance ``train`` or ``test``.
        camera: for re-identification.
        item_id: what the item is to be called, where it is not by its content.
        metadata: whatever else a table says of it.
    """

    uri: str
    label: str | None = None
    split: str | None = None
    camera: str | None = None
    item_id: str | None = None
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """Entries, found one after the other.

    Attributes:
        entries: can be gone through once.
        by_path: whether their order is that of their addresses, because they come as the file system pleases.
    """

    entries: Iterable[Entry]
    by_path: bool = False

    def in_order(self) -> list[Entry]:
        """All of them, in memory.

        Raises:
            InputError: an id occurs twice.
        """
        found = sorted(self.entries, key=lambda entry: path_key(entry.uri)) if self.by_path else list(self.entries)
        seen: set[str] = set()
        for entry in found:
            if entry.item_id is not None:
                if entry.item_id in seen:
                    raise twice(entry)
                seen.add(entry.item_id)
        return found


def path_key(address: str) -> str:
    """Orders addresses folder by folder: a folder's files stand together."""
    return address.replace("/", "\x01")


def twice(entry: Entry) -> InputError:
    """That an id names two images."""
    return InputError(f"The table has the item_id {entry.item_id!r} twice: an id names one item.")


def list_folder(folder: str, require_labels: bool) -> Listing:
    """A folder per class, below folders per split where there are such; or loose images without labels.

    Raises:
        InputError: while it is gone through, in a sentence that says what to change.
    """
    return Listing(_folder(folder, require_labels, None), by_path=True)


def list_table(path: str, require_labels: bool, metadata: Sequence[str] = ()) -> Listing:
    """A CSV or Parquet table with the columns ``path``, ``label`` and optionally ``split``, ``camera``, ``item_id``.

    Args:
        path: its address; paths in it are relative to it, or addresses themselves.
        require_labels: whether every row must have one.
        metadata: further columns that describe the items; an empty cell describes nothing. What a CSV table says is text.

    Raises:
        InputError: while it is gone through, in a sentence that says what to change.
        MissingExtraError: a Parquet table without pyarrow.
    """
    return Listing(_table(path, require_labels, metadata))


def _folder(folder: str, require_labels: bool, split: str | None) -> Iterator[Entry]:
    def is_loose(child: Child) -> bool:
        return not child.is_folder and _is_image(child.name)

    # The folders of a folder are few, whatever it holds besides.
    folders = sorted(child.name for child in children(folder) if child.is_folder)
    if folders and split is None and all(name.lower() in SPLITS for name in folders):
        for name in folders:
            yield from _folder(join(folder, name), require_labels, SPLITS[name.lower()])
        return
    found = 0
    for name in folders:
        before = found
        for uri in _images_below(join(folder, name)):
            found += 1
            yield Entry(uri, name, split)
        if found == before and require_labels:
            raise InputError(f"The class {name!r} of {folder} has no image: add images or remove its folder.")
    loose = (child.name for child in children(folder) if is_loose(child))
    first = next(loose, None)
    if first is None:
        if not found:
            raise InputError(f"{folder} holds no images: expected FOLDER/CLASS/IMAGE.")
        return
    if require_labels and found:
        raise InputError(f"{join(folder, first)} lies beside the class folders: move it into one of them.")
    if require_labels:
        count = 1 + sum(1 for _ in loose)
        raise InputError(f"{folder} holds {count} images but no folder per class: make FOLDER/CLASS/IMAGE.")
    yield Entry(join(folder, first), None, split)
    for name in loose:
        yield Entry(join(folder, name), None, split)


def _images_below(folder: str) -> Iterator[str]:
    for child in children(folder):
        if child.is_folder:
            # A link to a folder may lead in a circle.
            if not child.is_link:
                yield from _images_below(f"{folder}/{child.name}")
        elif _is_image(child.name):
            yield f"{folder}/{child.name}"


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _table(path: str, require_labels: bool, metadata: Sequence[str]) -> Iterator[Entry]:
    for name in metadata:
        if not re.fullmatch(NAME, name) or name in COLUMNS:
            raise InputError(
                f"The column {name!r} cannot be metadata: names are letters, digits, _ and -, and none of {', '.join(COLUMNS)}."
            )
    rows = _csv_rows(path) if path.lower().endswith(".csv") else _parquet_rows(path, (*COLUMNS, *metadata))
    names = next(rows)
    for name in (*(("path", "label") if require_labels else ("path",)), *metadata):
        if name not in names:
            raise InputError(f"{path} has no column {name!r}: it has {', '.join(names) or 'none'}.")
    here = local_path(path)
    folder = path.rpartition("/")[0] if here is None else str(here.parent)
    number = 0
    for number, row in enumerate(rows, 1):
        file = _text(row["path"])
        if not file:
            raise InputError(f"{path} has no path in row {number}.")
        label = _text(row.get("label"))
        if require_labels and not label:
            raise InputError(f"{path} has no label in row {number} ({file}): fill it in or drop the row.")
        split = _text(row["split"]) if "split" in row else None
        yield Entry(
            join(folder, file),
            label or None,
            None if split is None else SPLITS.get(split.lower(), split),
            _text(row["camera"]) if "camera" in row else None,
            _text(row.get("item_id")) or None,
            {name: value for name in metadata if (value := _scalar(row[name])) is not None},
        )
    if not number:
        raise InputError(f"{path} has no rows.")


def _csv_rows(path: str) -> Iterator[Mapping[str, Any]]:
    """A row of nothing, which has all columns, then the rows of the table."""
    try:
        with opened(path, "r", newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            if len(set(names)) != len(names):
                raise InputError(f"{path} has two columns of one name among {', '.join(names)}: rename one.")
            yield dict.fromkeys(names)
            for row in reader:
                if row:
                    yield dict.fromkeys(names, "") | dict(zip(names, map(str.strip, row), strict=False))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a UTF-8 CSV table ({error}).") from error


def _parquet_rows(path: str, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """A row of nothing, which has all columns, then the rows of the table with the columns that somebody wants."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingExtraError("Reading a Parquet table", "parquet") from error
    try:
        with opened(path) as file:
            table = parquet.ParquetFile(file)
            names = table.schema_arrow.names
            yield dict.fromkeys(names)
            for batch in table.iter_batches(ROWS, columns=[name for name in wanted if name in names]):
                yield from batch.to_pylist()
    except (OSError, ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read as a Parquet table ({str(error).splitlines()[0]}).") from error


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _scalar(value: Any) -> str | int | float | bool | None:
    """A value as metadata can hold it; ``None`` where it says nothing."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)

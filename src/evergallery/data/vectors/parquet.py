"""Vectors in a table of Arrow, such as a Parquet file."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.data.columns import scalar_of, text_of
from evergallery.data.metadata import Scalar, is_name, of_json
from evergallery.data.unpacking import import_arrow, opened_parquet, parquet_batches
from evergallery.data.vectors.table import BATCH, SPACE, TEXTS, RawRows, VectorTable, readable
from evergallery.errors import InputError


class ArrowTable(VectorTable):
    """A table of Arrow in batches, never in memory as a whole; without a column ``embedding`` its ``vector`` is that."""

    what: str
    """The kind of the file, in words."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.arrow, _ = import_arrow()
        schema = self._schema()
        self._called = {"vector": "embedding"} if "embedding" not in schema.names and "vector" in schema.names else {}
        metadata = schema.metadata or {}
        schema = self.arrow.schema([field.with_name(self._called.get(field.name, field.name)) for field in schema])
        types = self.arrow.types
        for name in ("embedding", "id"):
            if name not in schema.names:
                raise InputError(
                    f"{path} has no column {name!r}: it needs embedding and id, and has {', '.join(schema.names) or 'none'}."
                )
        if len(set(schema.names)) != len(schema.names):
            raise InputError(f"{path} has two columns of one name among {', '.join(schema.names)}: rename one.")
        embedding = schema.field("embedding").type
        if not (types.is_list(embedding) or types.is_large_list(embedding) or types.is_fixed_size_list(embedding)):
            raise InputError(f"{path} has a column 'embedding' of {embedding}: it must hold lists of numbers.")
        if not (types.is_floating(embedding.value_type) or types.is_integer(embedding.value_type)):
            raise InputError(f"{path} has a column 'embedding' of {embedding}: it must hold lists of numbers.")
        self.extra = [name for name in schema.names if name not in ("embedding", "id", "metadata", *TEXTS.values())]
        for name in schema.names:
            if name != "embedding":
                self._check_column(name, schema.field(name).type)
        self.has_metadata = "metadata" in schema.names
        self.names = [name for name in ("id", *TEXTS.values()) if name in schema.names]
        space = metadata.get(SPACE.encode())
        self.space = space.decode() if space else None
        self.dimension = self._first_dimension()

    def _check_column(self, name: str, kind: Any) -> None:
        types = self.arrow.types
        if types.is_dictionary(kind):
            kind = kind.value_type
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        texts = is_text or is_bytes or types.is_fixed_size_binary(kind) or types.is_null(kind)
        if name in self.extra:
            is_time = types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_decimal(kind)
            if not (texts or is_time or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise InputError(
                    f"{self.path} has a column {name!r} of {kind}: what becomes metadata must be text, numbers or booleans; "
                    f"convert or drop it."
                )
            if not is_name(name):
                raise InputError(
                    f"{self.path} has a column {name!r}: names of metadata are letters, digits, _ and -; rename it."
                )
        elif not (
            texts
            or (name != "metadata" and (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)))
        ):
            raise InputError(f"{self.path} has a column {name!r} of {kind}: it must be text.")

    def _first_dimension(self) -> int:
        for column in self._columns(BATCH):
            for length in self._lengths(column["embedding"]):
                if length:
                    return length
        raise InputError(f"{self.path} holds no vector that can be used.")

    @abstractmethod
    def _schema(self) -> Any:
        """The columns of the table, as Arrow describes them."""

    @abstractmethod
    def _batches(self, size: int) -> Iterator[Any]:
        """The record batches of the table, of at most ``size`` rows."""

    def _columns(self, size: int) -> Iterator[dict[str, Any]]:
        with readable(self.path, self.what):
            for batch in self._batches(size):
                names = [self._called.get(name, name) for name in batch.schema.names]
                yield dict(zip(names, batch.columns, strict=True))

    def _lengths(self, column: Any) -> list[int | None]:
        if self.arrow.types.is_fixed_size_list(column.type):
            return [column.type.list_size if valid else None for valid in column.is_valid().to_pylist()]
        lengths: list[int | None] = column.value_lengths().to_pylist()
        return lengths

    def _read(self, size: int) -> Iterator[RawRows]:
        for columns in self._columns(size):
            with readable(self.path, self.what):
                rows = self._rows(columns)
            yield rows

    def _rows(self, columns: Mapping[str, Any]) -> RawRows:
        column = columns["embedding"]
        problems = {
            index: "has no vector" if length is None else f"has a vector of {length} numbers, not {self.dimension}"
            for index, length in enumerate(self._lengths(column))
            if length != self.dimension
        }
        if problems:
            embeddings = np.full((len(column), self.dimension), np.nan)
            for index in set(range(len(column))) - set(problems):
                embeddings[index] = column[index].values.to_numpy(zero_copy_only=False)
        else:
            embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), self.dimension)
        nothing = [None] * len(column)
        texts: dict[str, list[str | None]] = {}
        for name in self.names:
            texts[name] = []
            for index, value in enumerate(columns[name].to_pylist()):
                try:
                    texts[name].append(text_of(value))
                except ValueError as error:
                    texts[name].append(None)
                    problems.setdefault(index, f"has as {name} {error}")
        extra = {name: list(map(scalar_of, columns[name].to_pylist())) for name in self.extra}
        metadata: list[Mapping[str, Scalar] | str | None] = [
            {name: values[index] for name, values in extra.items() if values[index] is not None}
            for index in range(len(column))
        ]
        if self.has_metadata:
            for index, text in enumerate(columns["metadata"].to_pylist()):
                own = metadata[index]
                given = of_json(text)
                metadata[index] = {**own, **given} if isinstance(own, dict) and isinstance(given, dict) else text
        return RawRows(
            embeddings,
            texts["id"],
            {plural: texts.get(name, nothing) for plural, name in TEXTS.items()},
            metadata,
            problems,
        )


class ParquetTable(ArrowTable):
    """A Parquet file."""

    what = "a Parquet table"

    def _schema(self) -> Any:
        with readable(self.path, self.what), opened_parquet(self.path, self.path) as file:
            return file.schema_arrow

    def _batches(self, size: int) -> Iterator[Any]:
        with opened_parquet(self.path, self.path) as file:
            yield from parquet_batches(self.path, file, size)

"""Tables of vectors, whatever the file: rows, what is wrong with them, and the good ones in batches."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images import UnreadableImage
from evergallery.data.metadata import Scalar, finite_values, of_json, unstorable
from evergallery.data.unit_vectors import is_unit, unit_rows
from evergallery.errors import InputError
from evergallery.strings.names import normal

SUFFIXES = (".npz", ".npy", ".parquet", ".pq")
"""Suffixes of the files that are read and written."""
BATCH = 1024


TEXTS = {"labels": "label", "uris": "uri", "content_hashes": "content_hash"}
"""Columns of text beside the ids, as arrays and Parquet call them."""
SPACE = "evergallery.space"


@dataclass(frozen=True, eq=False)
class VectorBatch:
    """B vectors with what is known of them; an empty text counts as none."""

    ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    """(B, D) unit rows."""
    labels: tuple[str | None, ...]
    uris: tuple[str | None, ...]
    content_hashes: tuple[str | None, ...]
    metadata: tuple[Mapping[str, Scalar], ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class RawRows:
    """A stretch of a table as the file has it."""

    embeddings: NDArray[Any]
    """The vectors (B, D); NaN where there is no vector of D numbers."""
    ids: Sequence[str | None]
    texts: Mapping[str, Sequence[str | None]]
    metadata: Sequence[Mapping[str, Scalar] | str | None]
    """Metadata of each row, as values or as JSON."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """The problems that the reader found, by index into these rows."""


class VectorTable(ABC):
    """A table that was read once and found good; ``open_vectors`` makes one.

    Attributes:
        path: the file.
        dimension: D of its vectors.
        rows: how many of them are good.
        normalised: how many of these were not of unit length and are made so, which the cosine does not mind.
        skipped: the bad ones, where they are skipped.
        content: SHA-256 of the good ids and vectors, whatever the format and the order of the rows.
        space: fingerprint of the embedding space, where the file was exported from a gallery.
    """

    dimension: int
    space: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self.normalised = 0
        self.skipped: tuple[UnreadableImage, ...] = ()
        self.content = ""
        self._bad: frozenset[int] = frozenset()

    def batches(self, size: int = BATCH) -> Iterator[VectorBatch]:
        """The good rows in their order, at most ``size`` at a time."""
        first = 0
        for rows in self._read(size):
            kept = [index for index in range(len(rows.ids)) if first + index not in self._bad]
            first += len(rows.ids)
            if kept:
                yield _batch(rows, kept)

    def check(self, skip_bad: bool) -> None:
        """Read everything once; fixed memory but for a digest of each id.

        Raises:
            InputError: a row that cannot be used, unless ``skip_bad``; no row that can.
        """
        seen: set[bytes] = set()
        bad: list[int] = []
        skipped: list[UnreadableImage] = []
        total = first = 0
        for rows in self._read(BATCH):
            problems = _problems(rows)
            for index, identifier in enumerate(rows.ids):
                if index not in problems:
                    digest = hashlib.blake2b(str(identifier).encode(), digest_size=16).digest()
                    if digest in seen:
                        problems[index] = "has an id that an earlier row has"
                    seen.add(digest)
            for index in sorted(problems):
                name = f"row {first + index}" + (f" (id {rows.ids[index]!r})" if rows.ids[index] else "")
                if not skip_bad:
                    raise InputError(
                        f"{self.path}: {name} {problems[index]}; mend the table, or leave such rows out with --skip-bad."
                    )
                bad.append(first + index)
                skipped.append(UnreadableImage(name, problems[index]))
            kept = [index for index in range(len(rows.ids)) if index not in problems]
            self.normalised += int((~is_unit(rows.embeddings[kept])).sum())
            total = (total + _content(_batch(rows, kept))) % (1 << 256)
            self.rows += len(kept)
            first += len(rows.ids)
        if not self.rows:
            reason = f"; the first: {skipped[0].uri} {skipped[0].reason}" if skipped else ""
            raise InputError(f"{self.path} holds no vector that can be used{reason}.")
        self._bad, self.skipped = frozenset(bad), tuple(skipped)
        self.content = hashlib.sha256(f"{self.rows}:{self.dimension}:{total:064x}".encode()).hexdigest()

    @abstractmethod
    def _read(self, size: int) -> Iterator[RawRows]: ...


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Say in a sentence what a reader of files has refused."""
    try:
        yield
    except InputError:
        raise
    # Readers answer damaged bytes with almost any exception: ValueError, EOFError, zlib.error, ArrowInvalid, OSError, ...
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as {what} ({reason}): it may be damaged, cut short or of another kind."
        ) from error


def _problems(rows: RawRows) -> dict[int, str]:
    """Return what is wrong with each bad row but repeated ids."""
    problems = dict(rows.problems)
    finite = np.isfinite(rows.embeddings).all(axis=1)
    zero = ~rows.embeddings.astype(bool).any(axis=1)
    for index in np.flatnonzero(~finite | zero).tolist():
        problems.setdefault(index, "is a vector of zeros" if finite[index] else "has a vector with NaN or infinity")
    for index, (identifier, metadata) in enumerate(zip(rows.ids, rows.metadata, strict=True)):
        if index in problems:
            continue
        if not identifier:
            problems[index] = "has no id"
            continue
        read = of_json(metadata) if isinstance(metadata, str | None) else metadata
        if read is None:
            problems[index] = "has metadata that are no JSON object"
            continue
        wrong = unstorable(finite_values(read))
        if wrong is not None:
            problems[index] = f"has metadata {wrong!r} that cannot be stored ({read[wrong]!r})"
            continue
        try:
            "".join([identifier, *(texts[index] or "" for texts in rows.texts.values())]).encode()
        except UnicodeEncodeError:
            problems[index] = "has text that is not Unicode"
    return problems


def _batch(rows: RawRows, kept: Sequence[int]) -> VectorBatch:
    """The rows that were found good, as unit vectors."""
    texts = {name: tuple(column[index] for index in kept) for name, column in rows.texts.items()}
    metadata = [rows.metadata[index] for index in kept]
    return VectorBatch(
        ids=tuple(str(rows.ids[index]) for index in kept),
        embeddings=unit_rows(rows.embeddings[kept]),
        metadata=tuple(finite_values((of_json(row) or {}) if isinstance(row, str | None) else row) for row in metadata),
        **{**texts, "labels": tuple(None if label is None else normal(label) for label in texts["labels"])},
    )


def _content(batch: VectorBatch) -> int:
    """A sum of digests of id and vector, so that neither batches nor order matter."""
    vectors = batch.embeddings.astype("<f4")
    return sum(
        int.from_bytes(hashlib.sha256(f"{len(name)}:{name}".encode() + vector.tobytes()).digest(), "big")
        for name, vector in zip(batch.ids, vectors, strict=True)
    )

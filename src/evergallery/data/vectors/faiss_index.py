"""Vectors in an index of FAISS."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.data.vectors.arrays import named_rows
from evergallery.data.vectors.table import TEXTS, RawRows, VectorTable, readable
from evergallery.errors import InputError, MissingExtraError


class FaissTable(VectorTable):
    """An index file that gives its vectors back, mapped where FAISS maps it.

    Ids are those of an ``IndexIDMap``, or row numbers from 0, unless a file names them. An index that keeps its vectors
    compressed gives back what it kept, which is not what the model made.

    Args:
        path: of the file.
        ids: a text file with an id on each line, in the order in which the vectors were added.

    Raises:
        MissingExtraError: the extra ``faiss`` is not installed.
        InputError: it is no index of vectors of numbers, or gives none back.
    """

    def __init__(self, path: Path, ids: Path | None) -> None:
        super().__init__(path)
        try:
            import faiss
        except ImportError:
            raise MissingExtraError("An index of FAISS", "faiss") from None
        with readable(path, "an index of FAISS"):
            # Its own messages name the lines of its sources.
            try:
                index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
            except RuntimeError as error:
                raise ValueError(str(error).rpartition(": ")[2]) from None
        self.dimension, self._count = int(index.d), int(index.ntotal)
        if not self._count:
            raise InputError(f"{path} holds no vector that can be used.")
        self._names: Sequence[str | None] | None = None
        if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
            self._names = list(map(str, faiss.vector_to_array(index.id_map).tolist()))
            # The inner index lives as long as its owner.
            self._owner: Any = index
            index = faiss.downcast_index(index.index)
        if ids is not None:
            self._names = named_rows(ids, path, self._count)
        self._index: Any = index
        try:
            if isinstance(index, faiss.IndexIVF):
                # Refuses lists with ids that are not row numbers.
                index.make_direct_map()
            index.reconstruct_n(0, 1)
        except RuntimeError:
            raise InputError(
                f"{path} is an {type(index).__name__}, which does not give its vectors back: import the originals."
            ) from None

    def _read(self, size: int) -> Iterator[RawRows]:
        for start in range(0, self._count, size):
            count = min(size, self._count - start)
            nothing = (None,) * count
            names = (
                [str(row) for row in range(start, start + count)]
                if self._names is None
                else self._names[start : start + count]
            )
            embeddings = np.asarray(self._index.reconstruct_n(start, count))
            yield RawRows(embeddings, names, dict.fromkeys(TEXTS, nothing), nothing)

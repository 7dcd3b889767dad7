"""Vectors in a dataset of Lance, which is what LanceDB calls a table."""

from collections.abc import Iterator
from typing import Any

from evergallery.data.vectors.parquet import ArrowTable
from evergallery.data.vectors.table import readable
from evergallery.errors import MissingExtraError


class LanceTable(ArrowTable):
    """A directory ``NAME.lance``, never in memory as a whole, as its newest version has it.

    Raises:
        MissingExtraError: the extra ``lance`` is not installed.
    """

    what = "a dataset of Lance"

    def _opened(self) -> Any:
        try:
            import lance
        except ImportError:
            raise MissingExtraError("A dataset of Lance", "lance") from None
        return lance.dataset(str(self.path))

    def _schema(self) -> Any:
        with readable(self.path, self.what):
            return self._opened().schema

    def _batches(self, size: int) -> Iterator[Any]:
        yield from self._opened().to_batches(batch_size=size)

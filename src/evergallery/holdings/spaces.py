"""Spaces of stored vectors: made by a generation, or mapped by an adapter from what a generation had made."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergallery.adapters.stored import StoredAdapter
from evergallery.errors import InputError
from evergallery.generations.generation import Generation


@dataclass(frozen=True)
class Space:
    """An embedding space of the workspace.

    Attributes:
        maker: the generation that looks at the images.
        adapter: that maps its vectors, for a space of mapped vectors.
    """

    maker: Generation
    adapter: StoredAdapter | None = None

    @property
    def name(self) -> str:
        """``v1``, or ``a1`` for vectors that the adapter a1 has mapped."""
        return self.adapter.card.name if self.adapter else self.maker.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint that identifies the space."""
        return self.adapter.card.fingerprint if self.adapter else self.maker.fingerprint

    @property
    def dimension(self) -> int:
        """D of the vectors."""
        return self.adapter.card.dimension if self.adapter else self.maker.card.dimension

    def require_width(self, queries: NDArray[np.float32]) -> None:
        """Refuse queries (Q, D) that are not of this space's D.

        Raises:
            InputError: they are of another.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(
                f"The query has shape {queries.shape[1:]} and {self.name} makes vectors of ({self.dimension},): "
                f"name the generation that made it."
            )

    def require_other(self, other: "Space") -> None:
        """Refuse a space that is this one, where a map leads from one to the other.

        Raises:
            InputError: it is.
        """
        if self.name == other.name:
            raise InputError(f"{self.name} needs no adapter to itself: name another generation.")

    def map(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings (N, D) by the maker to vectors (N, D') of this space."""
        if self.adapter is None:
            return embeddings
        import torch

        mapped: NDArray[np.float32] = self.adapter.adapter()(torch.from_numpy(embeddings)).numpy()
        return mapped

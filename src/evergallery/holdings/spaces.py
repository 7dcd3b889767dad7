"""What a stored vector can be: made by a generation, or mapped by an adapter from what a generation had made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.adapters.stored import StoredAdapter
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.network import Embedder, Extractor
from evergallery.network.relatives import vectors_between

Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Vectors (N, D) of one space to vectors (N, D') of another."""


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
        """Identifies the space."""
        return self.adapter.card.fingerprint if self.adapter else self.maker.fingerprint

    @property
    def dimension(self) -> int:
        """D."""
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

    def map(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings (N, D) by the maker to vectors (N, D') of this space."""
        if self.adapter is None:
            return embeddings
        mapped: NDArray[np.float32] = self.adapter.adapter()(torch.from_numpy(embeddings)).numpy()
        return mapped


def maps_to(target: Space, makers: Sequence[Generation], embedder: Callable[[Generation], Extractor]) -> dict[str, Map]:
    """How vectors of some generations become those of a target space without any image, by fingerprint.

    By the target's adapter, which maps those of its source; or exactly, where the two share a frozen backbone.

    Args:
        target: the space that is wanted.
        makers: generations whose vectors are stored.
        embedder: loads one.
    """
    if target.adapter is not None:
        return {target.maker.fingerprint: target.map}
    wanted = target.maker
    maps = {}
    for maker in makers:
        if maker.fingerprint == wanted.fingerprint or not (maker.can_be_parent and wanted.can_be_parent):
            continue
        if maker.is_expanded or wanted.is_expanded:
            continue
        if (maker.architecture.backbone, maker.preprocessing) != (wanted.architecture.backbone, wanted.preprocessing):
            continue
        one, other = embedder(maker), embedder(wanted)
        assert isinstance(one, Embedder)
        assert isinstance(other, Embedder)
        between = vectors_between((one, maker.preprocessing), (other, wanted.preprocessing))
        if between is not None:
            maps[maker.fingerprint] = between
    return maps

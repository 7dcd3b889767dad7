"""Adapters: maps of unit rows to unit rows, learned from pairs of the same images."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from evergallery.errors import InputError

MINIMUM_PAIRS = 2
TINY = 1e-12


class Adapter(nn.Module, ABC):
    """A map of unit rows (N, D) of one space, the source, to unit rows (N, D') of another, the target.

    Queries of the source and stored vectors of the target are compared by the inner product of ``query_side`` and
    ``stored_side``: the cosine of the mapped query and the vector as it is stored, unless the adapter knows better.

    It has nothing to train and gives no gradient. Its tensors are all there is to it: ``type(adapter)(**adapter.tensors())``
    is the same map, and ``adapter_from_tensors`` finds the type by its kind.
    """

    kind: ClassVar[str]
    rescores: ClassVar[bool] = False
    """True if stored vectors are compared in another way than by their cosine with the mapped query."""

    def __init__(self, **tensors: Tensor | None) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            # One memory layout, so that a map that was stored gives the same bits.
            self.register_buffer(name, None if tensor is None else tensor.detach().contiguous())
        self.eval()

    @property
    @abstractmethod
    def source_dimension(self) -> int:
        """D of the embeddings that the adapter maps."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D' of the embeddings that the adapter gives."""

    @abstractmethod
    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D') of any length."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """Unit rows (N, D) to unit rows (N, D').

        Raises:
            InputError: embeddings of another shape.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.source_dimension:
            raise InputError(
                f"This adapter maps embeddings of shape (N, {self.source_dimension}) and got {tuple(embeddings.shape)}: "
                f"give it embeddings of the generation that it was fitted for."
            )
        # Three microseconds less than F.normalize under no_grad, more than a product of 128 dimensions takes.
        mapped = self.map(embeddings.detach())
        lengths: Tensor = torch.linalg.vector_norm(mapped, dim=1, keepdim=True)
        return mapped / lengths.clamp_min_(TINY)

    def query_side(self, embeddings: Tensor) -> Tensor:
        """Queries (N, D) to (N, E)."""
        mapped: Tensor = self(embeddings)
        return mapped

    def stored_side(self, vectors: Tensor) -> Tensor:
        """Stored vectors (N, D') to (N, E)."""
        return vectors

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that the adapter consists of, by name."""
        return dict(self.named_buffers())


def check_pairs(source: Tensor, target: Tensor) -> None:
    """Refuse what is not two embeddings of each image.

    Args:
        source: (N, D), N at least 2.
        target: (N, D') of the same images, in the same order.

    Raises:
        InputError: shapes that do not fit, too few pairs, or numbers that are not finite.
    """
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        raise InputError(
            f"An adapter learns from pairs and got embeddings of shapes {tuple(source.shape)} and {tuple(target.shape)}: "
            f"give both generations' embeddings of the same images, in the same order."
        )
    if len(source) < MINIMUM_PAIRS:
        raise InputError(
            f"An adapter learns from pairs and got {len(source)}: give both generations' embeddings of at least "
            f"{MINIMUM_PAIRS} images, better of several times as many as there are dimensions."
        )
    for name, embeddings in (("source", source), ("target", target)):
        wrong = torch.nonzero(~torch.isfinite(embeddings).all(1)).flatten()
        if len(wrong):
            raise InputError(f"Row {int(wrong[0])} of the {name} embeddings is not finite: leave this image out.")

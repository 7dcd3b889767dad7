"""Classifier heads: used while a generation learns, never when it is served."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HeadKind = Literal["linear", "unit-rows", "cosine", "simplex"]


class Head(nn.Module):
    """One weight row per class, without bias; grows when classes arrive and keeps the rows it has.

    Kinds, for features ``f`` and row ``w``:

    - ``linear``: ``<f, w>``
    - ``unit-rows``: ``<f, w / |w|>``, the head of CSD. The published code normalises the rows in place, outside of
      autograd; here the gradient takes the normalisation into account.
    - ``cosine``: ``scale · cos(f, w)``
    """

    def __init__(self, width: int, classes: int, kind: HeadKind = "unit-rows", scale: float = 16.0) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.weight = nn.Parameter(_new_rows(classes, width))

    @property
    def classes(self) -> int:
        """Number of classes it scores."""
        return self.weight.shape[0]

    def forward(self, features: Tensor) -> Tensor:
        """Raw features (B, D) to logits (B, classes)."""
        if self.kind == "linear":
            return F.linear(features, self.weight)
        if self.kind == "unit-rows":
            return F.linear(features, F.normalize(self.weight))
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))

    def grow(self, classes: int, seed: int) -> "Head":
        """A head with ``classes`` rows: this one's, then new ones drawn from ``seed``."""
        width = self.weight.shape[1]
        grown = Head(width, classes, self.kind, self.scale)
        with torch.no_grad():
            rows = _new_rows(classes - self.classes, width, torch.Generator().manual_seed(seed))
            grown.weight.copy_(torch.cat([self.weight.detach().cpu(), rows]))
        return grown


def _new_rows(classes: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    # nn.Linear's default.
    bound = 1 / math.sqrt(width)
    return torch.empty(classes, width).uniform_(-bound, bound, generator=generator)

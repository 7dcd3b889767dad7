"""Classifier heads: used while a generation learns, never when it is served."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.network.architecture import HeadKind


class Head(nn.Module):
    """One weight row per class, without bias; grows when classes arrive and keeps the rows it has.

    Kinds, for features ``f`` and row ``w``:

    - ``linear``: ``<f, w>``
    - ``unit-rows``: ``<f, w / |w|>``, the head of CSD. The gradient takes the normalisation into account.
    - ``projected-rows``: the same logits, the head of CSD as its code learns it: before each pass in training the rows are
      brought back to unit length in place, and the gradient is that of ``linear``.
    - ``cosine``: ``scale · cos(f, w)``
    - ``simplex``: ``<f, w>`` with the D + 1 corners of a regular simplex, the head of CoReS. They are never trained and
      all there from the first class on: logits are of all of them, and ``classes`` says how many are in use.

    Next to a batch-hard triplet loss ``unit-rows`` and ``projected-rows`` may collapse to one point in the first epochs, which
    ``cosine`` with its larger gradients does not.
    """

    weight: Tensor
    """The rows (rows, D): a parameter, but for the simplex a buffer."""

    def __init__(self, width: int, classes: int, kind: HeadKind = "unit-rows", scale: float = 16.0) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.classes = classes
        """Number of classes that it was given."""
        if kind != "simplex":
            self.weight = nn.Parameter(_new_rows(classes, width))
        elif classes <= width + 1:
            self.register_buffer("weight", simplex(width))
        else:
            raise InputError(
                f"A simplex in {width} dimensions has corners for {width + 1} classes and not for {classes}: begin a "
                f"lineage with --dim {classes - 1} or more, or choose another kind of head."
            )

    def forward(self, features: Tensor) -> Tensor:
        """Raw features (B, D) to logits (B, rows)."""
        if self.kind == "projected-rows" and self.training:
            # Apart from the graph: a second pass before the gradient finds rows of unit length, and changes none.
            self.weight.data.copy_(F.normalize(self.weight.data))
            return F.linear(features, self.weight)
        return scores(features, self.weight, self.kind, self.scale)

    def grow(self, classes: int, seed: int) -> "Head":
        """A head for ``classes`` classes: this one's rows, then new ones drawn from ``seed``.

        Raises:
            InputError: more classes than a simplex has corners.
        """
        width = self.weight.shape[1]
        grown = Head(width, classes, self.kind, self.scale)
        if self.kind == "simplex":
            return grown
        with torch.no_grad():
            rows = _new_rows(classes - self.classes, width, torch.Generator().manual_seed(seed))
            grown.weight.copy_(torch.cat([self.weight.detach().cpu(), rows]))
        return grown


def scores(features: Tensor, rows: Tensor, kind: HeadKind, scale: float) -> Tensor:
    """Logits (B, K) of raw features (B, D) by rows (K, D), as a head of this kind makes them."""
    if kind in ("linear", "simplex"):
        return F.linear(features, rows)
    if kind in ("unit-rows", "projected-rows"):
        return F.linear(features, F.normalize(rows))
    return scale * F.linear(F.normalize(features), F.normalize(rows))


def simplex(width: int) -> Tensor:
    """The D + 1 corners of a regular simplex in D dimensions: unit rows, each pair at a cosine of ``-1 / D``.

    The unit vectors and ``(1 - sqrt(1 + D)) / D`` in every coordinate, moved to their common centre and scaled.
    """
    last = torch.full((1, width), (1 - math.sqrt(1 + width)) / width, dtype=torch.float64)
    corners = torch.cat([torch.eye(width, dtype=torch.float64), last])
    return F.normalize(corners - corners.mean(0)).float()


def _new_rows(classes: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    # nn.Linear's default.
    bound = 1 / math.sqrt(width)
    return torch.empty(classes, width).uniform_(-bound, bound, generator=generator)

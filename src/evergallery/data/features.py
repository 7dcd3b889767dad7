"""Features in place of images: what frozen backbones made of each image and of a few augmented views of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class BackboneFeatures:
    """The features of N images by one backbone: of each whole image, and of V augmented views of it.

    Attributes:
        plain: (M, 1, W) features of whole images, memory-mapped.
        plain_rows: (N,) row of each image in ``plain``.
        views: (M', V, W) features of augmented views, memory-mapped.
        view_rows: (N,) row of each image in ``views``.
    """

    plain: NDArray[Any]
    plain_rows: NDArray[np.int64]
    views: NDArray[Any]
    view_rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N images as their features, by one backbone or several beside each other.

    Attributes:
        parts: one for each backbone, whose columns follow each other.
        labels: (N,) rows of a head.
    """

    parts: tuple[BackboneFeatures, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def view_count(self) -> int:
        """Features that are known of each image: its own, and those of its views."""
        return 1 + int(self.parts[0].views.shape[1])

    def select(self, indices: NDArray[np.int64]) -> "FeatureSet":
        """The images at ``indices``, in that order."""
        parts = tuple(
            replace(part, plain_rows=part.plain_rows[indices], view_rows=part.view_rows[indices]) for part in self.parts
        )
        return FeatureSet(parts, self.labels[indices])

    def batch(self, indices: NDArray[np.int64], view: int = 0) -> Tensor:
        """Features (B, W) float32 of the whole images, or of their view 1, 2, …"""
        return self.chosen(indices, np.full(len(indices), view))

    def chosen(self, indices: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """Features (B, W) float32 of the view (B,) of each image: 0 is the whole one."""
        columns = []
        for part in self.parts:
            rows = part.plain[part.plain_rows[indices], 0].astype(np.float32)
            augmented = np.flatnonzero(views > 0)
            if len(augmented):
                rows[augmented] = part.views[part.view_rows[indices[augmented]], views[augmented] - 1]
            columns.append(rows)
        return torch.from_numpy(np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0])

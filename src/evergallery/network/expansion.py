"""An embedder that grows: the embeddings of its root, which never change, beside those of a network that goes on learning.

The expandable representation of class-incremental learning (Yan et al., DER, CVPR 2021), with two parts however many updates
there are: the first part keeps the oldest vectors searchable, and the second learns.
"""

import torch
from torch import Tensor

from evergallery.network.embedder import Embedder, Extractor


class ExpandedEmbedder(Extractor):
    """Normalised images (B, 3, H, W) to raw embeddings (B, D₁ + D₂), both parts of unit length.

    The first part of a query is a query of the root's own: compared by it alone, it finds in the root's vectors what the root
    finds, bit for bit. The whole has the mean of both parts' cosines. An image goes through two networks.

    Args:
        root: frozen.
        evolving: what goes on learning.
    """

    def __init__(self, root: Embedder, evolving: Embedder) -> None:
        super().__init__()
        self.root = root
        self.evolving = evolving
        self.dimension = root.dimension + evolving.dimension

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to raw embeddings (B, D₁ + D₂)."""
        return torch.cat([self.root.embed(images), self.evolving.embed(images)], dim=1)

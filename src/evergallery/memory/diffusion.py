"""Prototypes of an old space, refined by the neighbourhoods of a new one (UniBCT, Zhang et al., IJCAI 2022)."""

import torch
from torch import Tensor

from evergallery.memory.prototypes import class_means


def diffused_class_means(
    new: Tensor, old: Tensor, labels: Tensor, classes: int, *, share: float = 0.9, temperature: float = 0.05
) -> Tensor:
    """Means of old features after diffusion over the graph of new ones, class by class (K, D'); zero for no images.

    With new unit rows N (m, D) and old features O (m, D') of one class::

        E = softmax_rows(N Nᵀ / τ), self left out;   A = (1 - λ) (I - λ E)⁻¹;   prototype = mean_rows(A O)

    so an image that few others resemble in the new space, an outlier, is hardly felt. The research code that was found
    normalises E by columns. Then so is A, and ``mean_rows(A O)`` is the plain mean of O: no refinement at all. Here E is
    normalised by rows.

    Args:
        new: (N, D) unit rows.
        old: (N, D') of the same images, of any norm.
        labels: (N,) in 0 … K - 1.
        classes: K.
        share: λ in [0, 1), how much comes from the neighbours.
        temperature: τ > 0.
    """
    diffused = old.clone()
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        if len(members) > 1:  # One image has no neighbour.
            itself = torch.eye(len(members), dtype=torch.bool, device=new.device)
            edges = (new[members] @ new[members].T / temperature).masked_fill(itself, -torch.inf).softmax(1)
            diffused[members] = (1 - share) * torch.linalg.solve(itself.to(edges.dtype) - share * edges, old[members])
    return class_means(diffused, labels, classes)

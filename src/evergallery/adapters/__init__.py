"""Maps between the spaces of two finished generations, learned from paired embeddings after training."""

from collections.abc import Callable

from torch import Tensor

from evergallery.adapters.adapter import Adapter, Direction
from evergallery.adapters.affine import fit_affine
from evergallery.adapters.drift import fit_drift
from evergallery.adapters.mlp import fit_mlp
from evergallery.adapters.procrustes import fit_procrustes

ADAPTERS: dict[str, tuple[Callable[[Tensor, Tensor], Adapter], Direction]] = {
    "procrustes": (fit_procrustes, "query"),
    "linear": (fit_affine, "query"),
    "mlp": (fit_mlp, "query"),
    "drift": (fit_drift, "gallery"),
}
"""Every adapter by name, and what it maps: new queries into the old space, or stored vectors into the new one."""

__all__ = ["ADAPTERS", "Adapter", "Direction", "fit_affine", "fit_drift", "fit_mlp", "fit_procrustes"]

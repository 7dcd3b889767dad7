"""Maps between the spaces of two finished generations, learned from paired embeddings; names load when they are used."""

from typing import TYPE_CHECKING

from evergallery.late import late_names

if TYPE_CHECKING:
    from evergallery.adapters.adapter import Adapter
    from evergallery.adapters.bilateral import BilateralAdapter, fit_bilateral
    from evergallery.adapters.card import AdapterCard, Direction, NamedSpace
    from evergallery.adapters.drift import DriftAdapter, fit_drift
    from evergallery.adapters.kinds import ADAPTERS, Kind, adapter_from_tensors
    from evergallery.adapters.lambda_orthogonal import LambdaOrthogonalAdapter, fit_lambda_orthogonal
    from evergallery.adapters.linear import LinearAdapter, fit_linear
    from evergallery.adapters.mlp import MLPAdapter, fit_mlp
    from evergallery.adapters.procrustes import ProcrustesAdapter, fit_procrustes
    from evergallery.adapters.selection import Selection, select_adapter
    from evergallery.adapters.stored import Fitting, StoredAdapter

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AdapterCard",
    "BilateralAdapter",
    "Direction",
    "DriftAdapter",
    "Fitting",
    "Kind",
    "LambdaOrthogonalAdapter",
    "LinearAdapter",
    "MLPAdapter",
    "NamedSpace",
    "ProcrustesAdapter",
    "Selection",
    "StoredAdapter",
    "adapter_from_tensors",
    "fit_bilateral",
    "fit_drift",
    "fit_lambda_orthogonal",
    "fit_linear",
    "fit_mlp",
    "fit_procrustes",
    "select_adapter",
]

__getattr__ = late_names(
    __name__,
    {
        "adapter": ("Adapter",),
        "bilateral": ("BilateralAdapter", "fit_bilateral"),
        "card": ("AdapterCard", "Direction", "NamedSpace"),
        "drift": ("DriftAdapter", "fit_drift"),
        "kinds": ("ADAPTERS", "Kind", "adapter_from_tensors"),
        "lambda_orthogonal": ("LambdaOrthogonalAdapter", "fit_lambda_orthogonal"),
        "linear": ("LinearAdapter", "fit_linear"),
        "mlp": ("MLPAdapter", "fit_mlp"),
        "procrustes": ("ProcrustesAdapter", "fit_procrustes"),
        "selection": ("Selection", "select_adapter"),
        "stored": ("Fitting", "StoredAdapter"),
    },
)

"""Every kind of adapter by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from evergallery.adapters.adapter import Adapter
from evergallery.adapters.bilateral import BilateralAdapter, fit_bilateral
from evergallery.adapters.card import Direction
from evergallery.adapters.drift import DriftAdapter, fit_drift
from evergallery.adapters.lambda_orthogonal import LambdaOrthogonalAdapter, fit_lambda_orthogonal
from evergallery.adapters.linear import LinearAdapter, fit_linear
from evergallery.adapters.mlp import MLPAdapter, fit_mlp
from evergallery.adapters.procrustes import ProcrustesAdapter, fit_procrustes
from evergallery.errors import InputError, require_known


@dataclass(frozen=True)
class Kind:
    """A kind of adapter.

    Attributes:
        adapter: its class.
        fit: ``fit(source, target, **parameters)`` gives one.
        directions: what it is good for; the first is what a benchmark measures.
        between_dimensions: whether the two spaces may have different ones.
        directed: whether ``fit`` has a parameter ``direction``.
        tried: whether a choice among kinds tries it unasked.
    """

    adapter: type[Adapter]
    fit: Callable[..., Adapter]
    directions: tuple[Direction, ...] = ("query", "gallery")
    between_dimensions: bool = True
    directed: bool = False
    tried: bool = True

    def serves(self, direction: Direction, source_dimension: int, target_dimension: int) -> bool:
        """Return whether it is good for this direction and can map between these widths."""
        return direction in self.directions and (self.between_dimensions or source_dimension == target_dimension)

    def fit_for(self, direction: Direction) -> Callable[..., Adapter]:
        """``fit(source, target)`` of a map for this direction."""
        return partial(self.fit, direction=direction) if self.directed else self.fit


ADAPTERS: dict[str, Kind] = {
    ProcrustesAdapter.kind: Kind(ProcrustesAdapter, fit_procrustes),
    LinearAdapter.kind: Kind(LinearAdapter, fit_linear, directed=True),
    BilateralAdapter.kind: Kind(BilateralAdapter, fit_bilateral, directions=("query",)),
    # What it searches for by descent, a ridge towards the rotation has in closed form, of a strength that is chosen.
    LambdaOrthogonalAdapter.kind: Kind(LambdaOrthogonalAdapter, fit_lambda_orthogonal, tried=False),
    MLPAdapter.kind: Kind(MLPAdapter, fit_mlp),
    DriftAdapter.kind: Kind(DriftAdapter, fit_drift, directions=("gallery",), between_dimensions=False),
}
"""Every kind by name, the simplest first."""


def adapter_from_tensors(kind: str, tensors: Mapping[str, Tensor]) -> Adapter:
    """The adapter of this kind that ``adapter.tensors()`` gave these tensors of; their shapes tell the sizes.

    Raises:
        InputError: an unknown kind, or tensors that are not of that kind.
    """
    require_known("adapter", kind, ADAPTERS)
    try:
        return ADAPTERS[kind].adapter(**tensors)
    except TypeError:
        raise InputError(
            f"The tensors {', '.join(sorted(tensors))} are not those of an adapter of kind {kind!r}: "
            f"name the kind that they were taken from."
        ) from None

"""The architecture of a network, as cards have it; reading one needs no torch."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import InputError, fault_of

HeadKind = Literal["linear", "unit-rows", "projected-rows", "cosine", "simplex"]
Neck = Literal["none", "linear", "bn", "linear-bn", "unit-linear", "mlp"]

LARGEST_DIMENSION = 65_536
"""No gallery takes more, and nobody means more: it is refused before memory is asked for it."""


class Architecture(BaseModel):
    """The architecture of an embedder; enough to build it again before its weights are loaded.

    Attributes:
        backbone: ``resnet8``, ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, ``bn-inception``, any timm model,
            ``torchvision/NAME``, or ``last-stride-1/NAME`` of a ResNet.
        dimension: D of the embedding; ``None`` keeps the backbone's own width.
        neck: between backbone and embedding. ``none`` (the pooled features are the embedding, as in CSD), ``linear``,
            ``bn`` (batch norm, Luo et al. 2019), ``linear-bn``, or ``unit-linear``: a linear map of the features at unit
            length, which begins as the identity where it keeps their dimension; or ``mlp``: to the features at unit length a
            small network adds what it has learned, nothing at first. A dimension other than the backbone's needs a linear
            one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = "resnet20"
    dimension: int | None = Field(default=None, ge=2, le=LARGEST_DIMENSION)
    neck: Neck = "none"

    @classmethod
    def of(cls, **given: Any) -> Self:
        """An architecture of values that somebody gave.

        Raises:
            InputError: one of them cannot be.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = "dim" if first["loc"][0] == "dimension" else first["loc"][0]
            raise InputError(f"--{name} {first['input']!r} is not usable: {fault_of(error)}.") from error

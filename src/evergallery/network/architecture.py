"""What a network is made of, as cards have it; reading one needs no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HeadKind = Literal["linear", "unit-rows", "cosine", "simplex"]
Neck = Literal["none", "linear", "bn", "linear-bn", "unit-linear", "mlp"]


class Architecture(BaseModel):
    """What an embedder is made of; enough to build it again before its weights are loaded.

    Attributes:
        backbone: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, ``bn-inception``, any timm model,
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
    dimension: int | None = Field(default=None, ge=2)
    neck: Neck = "none"

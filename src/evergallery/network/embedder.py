"""The embedder, which is served, and the network (embedder and head), which learns."""

from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.network.backbones import build_backbone
from evergallery.network.heads import Head

Neck = Literal["none", "linear", "bn", "linear-bn"]


class Architecture(BaseModel):
    """What an embedder is made of; enough to build it again before its weights are loaded.

    Attributes:
        backbone: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, any timm model, or ``torchvision/NAME``.
        dimension: D of the embedding; ``None`` keeps the backbone's own width.
        neck: between backbone and embedding. ``none`` (the pooled features are the embedding, as in CSD), ``linear``,
            ``bn`` (batch norm, Luo et al. 2019), or ``linear-bn``. A dimension other than the backbone's needs a
            linear one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = "resnet20"
    dimension: int | None = Field(default=None, ge=2)
    neck: Neck = "none"


class Outputs(NamedTuple):
    """What a network makes of a batch of B images."""

    features: Tensor
    """(B, D) raw embeddings."""
    embeddings: Tensor
    """(B, D) unit rows."""
    logits: Tensor
    """(B, K) scores of the classes the head knows."""


class Extractor(nn.Module):
    """What turns normalised images into unit embeddings: an ``Embedder``, or a model that somebody else has made."""

    dimension: int
    """D of its embeddings."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to unit embeddings (B, D)."""
        raise NotImplementedError


class Embedder(Extractor):
    """Backbone, pooling and neck: normalised images (B, 3, H, W) to raw embeddings (B, D).

    Args:
        architecture: what to build.
        pretrained: load the backbone's published weights.
        seed: of the initial weights.

    Raises:
        InputError: unknown backbone, or a dimension that the neck cannot make.
    """

    def __init__(self, architecture: Architecture, *, pretrained: bool = False, seed: int = 0) -> None:
        super().__init__()
        backbone = build_backbone(architecture.backbone, pretrained=pretrained, seed=seed)
        dimension = architecture.dimension or backbone.width
        if dimension != backbone.width and "linear" not in architecture.neck:
            raise InputError(
                f"{architecture.backbone} makes features of {backbone.width} dimensions, not {dimension}: "
                f"use neck 'linear' or 'linear-bn', or leave the dimension out."
            )
        self.architecture = architecture
        self.dimension = dimension
        self.backbone = backbone.module
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.neck = nn.Sequential()
            if "linear" in architecture.neck:
                self.neck.append(nn.Linear(backbone.width, dimension))
            if "bn" in architecture.neck:
                self.neck.append(nn.BatchNorm1d(dimension))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to raw embeddings (B, D)."""
        features: Tensor = self.neck(self.backbone(images))
        return features

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to unit embeddings (B, D)."""
        return F.normalize(self(images).float())


class Network(nn.Module):
    """An embedder and its head."""

    def __init__(self, embedder: Embedder, head: Head) -> None:
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, images: Tensor) -> Outputs:
        """Normalised images (B, 3, H, W) to features, unit embeddings and logits."""
        features = self.embedder(images)
        return Outputs(features, F.normalize(features), self.head(features))

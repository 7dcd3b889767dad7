"""The embedder, which is served, and the network (embedder and head), which learns."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.network.architecture import Architecture
from evergallery.network.backbones import build_backbone
from evergallery.network.heads import Head
from evergallery.watching import SILENT, Watcher

IDENTITIES = ("unit-linear", "mlp")
"""Necks that begin as the identity, where they keep the dimension."""


class Outputs(NamedTuple):
    """The outputs of a network for a batch of B images."""

    features: Tensor
    """(B, D) raw embeddings."""
    embeddings: Tensor
    """(B, D) unit rows."""
    logits: Tensor
    """(B, K) scores of the classes the head knows."""


class Extractor(nn.Module):
    """A map from normalised images to embeddings: an ``Embedder``, or a model that somebody else has made.

    Called, it makes raw embeddings (B, D) of normalised images (B, 3, H, W), at the length that it gives them.
    """

    dimension: int
    """D of its embeddings."""

    whole_batches = False
    """True of a model that takes a whole batch on a processor too, because the images are looked at elsewhere."""

    @property
    def device(self) -> torch.device:
        """The device that its weights are on."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to unit embeddings (B, D)."""
        return F.normalize(self(images).float())

    def require_same(self) -> None:
        """Ask what runs elsewhere whether it is still what was registered; what runs here cannot change unseen.

        Raises:
            DamagedError: it is another model.
        """


class Embedder(Extractor):
    """Backbone, pooling and neck: normalised images (B, 3, H, W) to raw embeddings (B, D).

    Args:
        architecture: what to build.
        pretrained: load the backbone's published weights.
        seed: of the initial weights.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: unknown backbone, or a dimension that the neck cannot make.
    """

    def __init__(
        self, architecture: Architecture, *, pretrained: bool = False, seed: int = 0, watcher: Watcher = SILENT
    ) -> None:
        super().__init__()
        backbone = build_backbone(architecture.backbone, pretrained=pretrained, seed=seed, watcher=watcher)
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
            torch.default_generator.manual_seed(seed + 1)
            self.neck = nn.Sequential()
            if architecture.neck in IDENTITIES:
                self.neck.append(UnitRows())
            if architecture.neck == "mlp":
                self.neck.append(ResidualLayer(dimension))
            if "linear" in architecture.neck:
                linear = nn.Linear(backbone.width, dimension)
                if architecture.neck == "unit-linear":
                    # The identity where it is square: the network's own vectors stay searchable.
                    nn.init.eye_(linear.weight) if dimension == backbone.width else nn.init.orthogonal_(linear.weight)
                    nn.init.zeros_(linear.bias)
                self.neck.append(linear)
            if "bn" in architecture.neck:
                self.neck.append(nn.BatchNorm1d(dimension))

    def with_backbone(self, backbone: nn.Module) -> "Embedder":
        """This embedder's neck, its weights shared, on another backbone of the same width."""
        other = copy.copy(self)
        other._modules = {**self._modules, "backbone": backbone}
        return other

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to raw embeddings (B, D)."""
        features: Tensor = self.neck(self.backbone(images))
        return features


class UnitRows(nn.Module):
    """Rows (B, W) at unit length."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, W) to (B, W)."""
        return F.normalize(features)


class ResidualLayer(nn.Module):
    """``x + W₂ gelu(W₁ x + b₁) + b₂`` of rows (B, W), as wide within; it begins as the identity.

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, W) to (B, W)."""
        added: Tensor = self.outer(F.gelu(self.inner(features)))
        return features + added


class FeatureColumns(nn.Module):
    """The backbone of known features: its columns of the features (B, W) that one frozen backbone or several gave.

    Args:
        start: first column.
        stop: the one after the last.
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, W) to the columns (B, stop - start)."""
        return features[:, self.start : self.stop]


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

"""Backbones, the embedder that is served, and the classifier heads used while it learns; names load when they are used."""

from typing import TYPE_CHECKING

from evergallery.late import late_names

if TYPE_CHECKING:
    from evergallery.network.architecture import Architecture, HeadKind, Neck
    from evergallery.network.backbones import CIFAR_DEPTHS, build_backbone
    from evergallery.network.embedder import Embedder, Extractor, Network, Outputs
    from evergallery.network.expansion import ExpandedEmbedder
    from evergallery.network.extraction import embedding, extract, outputs_of
    from evergallery.network.heads import Head

__all__ = [
    "CIFAR_DEPTHS",
    "Architecture",
    "Embedder",
    "ExpandedEmbedder",
    "Extractor",
    "Head",
    "HeadKind",
    "Neck",
    "Network",
    "Outputs",
    "build_backbone",
    "embedding",
    "extract",
    "outputs_of",
]

__getattr__ = late_names(
    __name__,
    {
        "architecture": ("Architecture", "HeadKind", "Neck"),
        "backbones": ("CIFAR_DEPTHS", "build_backbone"),
        "embedder": ("Embedder", "Extractor", "Network", "Outputs"),
        "expansion": ("ExpandedEmbedder",),
        "extraction": ("embedding", "extract", "outputs_of"),
        "heads": ("Head",),
    },
)

"""Backbones, the embedder that is served, and the classifier heads used while it learns."""

from evergallery.network.backbones import CIFAR_DEPTHS, build_backbone
from evergallery.network.embedder import Architecture, Embedder, Extractor, Neck, Network, Outputs
from evergallery.network.expansion import ExpandedEmbedder
from evergallery.network.extraction import embedding, extract, outputs_of
from evergallery.network.heads import Head, HeadKind

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

"""What a generation keeps of its task besides weights: class means and their drift, never an image."""

from evergallery.memory.drift import Weighting, estimate_drift, virtual_features
from evergallery.memory.memory import ClassMeans, Memory
from evergallery.memory.prototypes import class_means, robust_class_means

__all__ = [
    "ClassMeans",
    "Memory",
    "Weighting",
    "class_means",
    "estimate_drift",
    "robust_class_means",
    "virtual_features",
]

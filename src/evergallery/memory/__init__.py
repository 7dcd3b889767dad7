"""The memory of a generation beside its weights: class means and their drift, never an image."""

from evergallery.memory.boundaries import largest_distances, smallest_cosines
from evergallery.memory.diffusion import diffused_class_means
from evergallery.memory.drift import Weighting, estimate_drift, virtual_features
from evergallery.memory.fidelity import Fidelity, fidelity
from evergallery.memory.memory import ClassMeans, Memory, TrainingOutputs
from evergallery.memory.prototypes import class_means, robust_class_means
from evergallery.memory.scatter import Scatter, ScatterTrial, best_emphasis, discriminant_whitening, emphasis_ranks

__all__ = [
    "ClassMeans",
    "Fidelity",
    "Memory",
    "Scatter",
    "ScatterTrial",
    "TrainingOutputs",
    "Weighting",
    "best_emphasis",
    "class_means",
    "diffused_class_means",
    "discriminant_whitening",
    "emphasis_ranks",
    "estimate_drift",
    "fidelity",
    "largest_distances",
    "robust_class_means",
    "smallest_cosines",
    "virtual_features",
]

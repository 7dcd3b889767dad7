"""The one training loop, its settings, and its checkpoints; what loads torch is imported when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evergallery.training.settings import Recipe, Settings, TrainedPart

if TYPE_CHECKING:
    from evergallery.training.device import check_compiler, resolve_device
    from evergallery.training.standing import TrainingResult
    from evergallery.training.trainer import Lineage, TrainingData, train
    from evergallery.watching import Progress

__all__ = [
    "Lineage",
    "Progress",
    "Recipe",
    "Settings",
    "TrainedPart",
    "TrainingData",
    "TrainingResult",
    "check_compiler",
    "resolve_device",
    "train",
]

_HOMES = {
    "Lineage": "evergallery.training.trainer",
    "Progress": "evergallery.watching",
    "TrainingData": "evergallery.training.trainer",
    "TrainingResult": "evergallery.training.standing",
    "check_compiler": "evergallery.training.device",
    "resolve_device": "evergallery.training.device",
    "train": "evergallery.training.trainer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'evergallery.training' has no attribute {name!r}")

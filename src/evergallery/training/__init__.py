"""The one training loop, its settings, and its checkpoints."""

from evergallery.training.settings import Settings, TrainedPart, check_compiler, resolve_device
from evergallery.training.trainer import Trained, train
from evergallery.watching import Progress

__all__ = ["Progress", "Settings", "Trained", "TrainedPart", "check_compiler", "resolve_device", "train"]

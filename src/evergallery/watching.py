"""Long operations tell a watcher where they stand; the command line draws it, a test or a server may listen."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of a training run, for whoever shows it."""

    epoch: int
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]
    """Mean of each term over the epoch so far."""
    images_per_second: float
    recall: float | None
    """Recall@1 on the validation part after the last epoch."""


class Stopped(Exception):  # noqa: N818
    """Raised by a watcher to end an operation where it stands; the same call goes on from there."""


class Watcher:
    """Hears of progress and shows nothing; subclasses show it. Any method may raise ``Stopped``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def counted(self, activity: str, done: int, total: int) -> None:
        """``done`` of ``total`` images are through ``activity``, for instance ``"reading images"``."""

    def trained(self, progress: Progress) -> None:
        """A training run moved on."""

    def said(self, message: str) -> None:
        """Something worth a line happened."""

    def confirms(self, question: str) -> bool:
        """Return whether somebody says yes; nobody is there to be asked."""
        return False


class TrainingListener(Watcher):
    """Tells a function how far a training run is.

    Args:
        tell: hears of each step; ``None`` for nobody.
    """

    def __init__(self, tell: Callable[[Progress], object] | None) -> None:
        self._tell = tell

    def trained(self, progress: Progress) -> None:
        """Tell it."""
        if self._tell is not None:
            self._tell(progress)


SILENT = Watcher()
"""Hears of progress and does nothing."""

"""The progress of a run, and its result in the end."""

import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run."""

    epochs: int
    best_epoch: int
    """The epoch whose weights were kept, from 1."""
    images_seen: int
    seconds: float
    """Seconds of training and validation, over all parts of a run that was resumed."""
    validation: dict[str, float]
    """Figures of the kept epoch on the validation part; empty where there was none."""
    history: list[dict[str, Any]] = field(repr=False)
    device: str = "cpu"
    precision: str = "float32"


@dataclass
class Standing:
    """The progress of a run: the part of a checkpoint beside tensors.

    Attributes:
        epoch: how many epochs are done.
        step: how many steps of the next one.
        sums: what the terms of the loss have come to in these steps.
        best_epoch: 1-based; the epoch whose weights are kept.
        best_recall: the figure that it was chosen by; -1 where there is none.
        seconds: of training and validation.
        images_seen: in the epochs that are done.
        steps: in the epochs that are done.
        history: the record of each of them, as the log has it.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_recall: float = -1.0
    seconds: float = 0.0
    images_seen: int = 0
    steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def kept(cls, state: Mapping[str, Any]) -> Self:
        """Read the standing from a checkpoint, which holds more than this."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the standing."""
        return asdict(self)

    @property
    def recall(self) -> float | None:
        """Recall@1 on the validation part after the last epoch."""
        return self.history[-1].get("recall@1") if self.history else None

    def close_epoch(self, record: dict[str, Any], batches: Sequence[Sized], score: float) -> None:
        """Count an epoch that is done, by its record, its batches, and the figure that it may be chosen by.

        The later of two epochs with the same figure is the best.
        """
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        self.images_seen += sum(map(len, batches))
        self.steps += len(batches)
        self.history.append(record)
        if score >= self.best_recall:
            self.best_epoch, self.best_recall = self.epoch, score

    @property
    def is_best(self) -> bool:
        """Return whether the last epoch is the best so far."""
        return self.best_epoch == self.epoch


class Sums:
    """Sums of the terms of the loss over steps, in double precision, so that they are the same after an interruption."""

    def __init__(self, known: Mapping[str, float], device: torch.device) -> None:
        self._sums = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in known.items()}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add the terms of one step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().double()

    def values(self) -> dict[str, float]:
        """The sums so far; reading them waits for a GPU."""
        return {name: float(value) for name, value in self._sums.items()}


class Clock:
    """Seconds of a run over all of its parts, and since its last checkpoint."""

    def __init__(self, before: float) -> None:
        self._started = time.perf_counter() - before
        self.kept()

    def seconds(self) -> float:
        """Return how long the run has taken, in seconds."""
        return time.perf_counter() - self._started

    def kept(self) -> None:
        """Note that a checkpoint was written."""
        self._kept = time.perf_counter()

    def since_kept(self) -> float:
        """Return how long ago the last checkpoint was written, in seconds."""
        return time.perf_counter() - self._kept

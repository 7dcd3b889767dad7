"""How far a run has come, and what it did in the end."""

import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trained:
    """What a run did."""

    epochs: int
    best_epoch: int
    """1-based; the epoch whose weights were kept."""
    images_seen: int
    seconds: float
    """Of training and validation, over all of its parts where it was resumed."""
    validation: dict[str, float]
    """Figures of the kept epoch on the validation part; empty where there was none."""
    history: list[dict[str, Any]] = field(repr=False)
    device: str = "cpu"
    precision: str = "float32"


@dataclass
class Standing:
    """How far a run has come: what a checkpoint keeps beside tensors.

    Attributes:
        epoch: how many epochs are done.
        step: how many steps of the next one.
        sums: what the terms of the loss have come to in these steps.
        best_epoch: 1-based; the epoch whose weights are kept.
        best_recall: the figure that it was chosen by; -1 where there is none.
        seconds: of training and validation.
        images_seen: in the epochs that are done.
        steps: likewise.
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
        """Of a checkpoint, which says more than this."""
        return cls(**{one.name: state[one.name] for one in fields(cls) if one.name in state})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return asdict(self)

    @property
    def recall(self) -> float | None:
        """Recall@1 on the validation part after the last epoch."""
        return self.history[-1].get("recall@1") if self.history else None

    def close_epoch(self, record: dict[str, Any], batches: Sequence[Sized], score: float) -> None:
        """Another epoch is done: its record, its batches, and the figure that it may be chosen by.

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
        """Whether the last epoch is the best so far."""
        return self.best_epoch == self.epoch


class Sums:
    """Of the terms of the loss, step by step; in double precision, so that they are the same after an interruption."""

    def __init__(self, known: Mapping[str, float], device: torch.device) -> None:
        self._sums = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in known.items()}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """The terms of one step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().double()

    def values(self) -> dict[str, float]:
        """What they have come to; reading it waits for a GPU."""
        return {name: float(value) for name, value in self._sums.items()}


class Clock:
    """Seconds of a run over all of its parts, and since its last checkpoint."""

    def __init__(self, before: float) -> None:
        self._started = time.perf_counter() - before
        self.kept()

    def seconds(self) -> float:
        """How long the run has taken, in seconds."""
        return time.perf_counter() - self._started

    def kept(self) -> None:
        """A checkpoint was written."""
        self._kept = time.perf_counter()

    def since_kept(self) -> float:
        """Seconds since then."""
        return time.perf_counter() - self._kept

"""The log of a run: a line for each epoch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

LOG = "log.jsonl"


class TrainingLog:
    """One JSON line per epoch, and TensorBoard event files where TensorBoard is installed."""

    def __init__(self, directory: Path, history: list[dict[str, Any]]) -> None:
        # What a killed run wrote after its last checkpoint is dropped: it will be written again.
        (directory / LOG).write_text("".join(json.dumps(record) + "\n" for record in history))
        self.file = (directory / LOG).open("a")
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            self.board: Any = None
        else:
            self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=len(history) + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append the record of one epoch."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in _flattened(record):
                self.board.add_scalar(name, value, record["epoch"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def _flattened(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{term}", number) for term, number in value.items())
        elif isinstance(value, tuple):
            yield from ((f"{name}/{place}", number) for place, number in enumerate(value))
        elif name != "epoch":
            yield name, value

"""The result of the demo: five ways to have come to a generation, beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery.data.images import UnreadableImage
from evergallery.generations.generation import Generation
from evergallery.retrieval.metrics import RetrievalMetrics


@dataclass(frozen=True)
class DemoRow:
    """One way to have come to a second generation, with what it cost and what it reaches.

    Attributes:
        title: in words.
        generation: that it led to.
        self_test: metrics in vectors of its own, by group of classes.
        cross_test: metrics in the stored vectors, likewise.
        images: that it learned from.
        seconds: that it took.
    """

    title: str
    generation: Generation
    self_test: Mapping[str, RetrievalMetrics]
    cross_test: Mapping[str, RetrievalMetrics]
    images: int
    seconds: float

    def recall(self, test: str, group: str) -> float:
        """Recall@1 in percent; ``test`` is ``self`` or ``cross``."""
        return 100 * (self.self_test if test == "self" else self.cross_test)[group].recall[1]


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo; ``contenders`` are initial, fine-tuned, CSD, evergreen and joint, in this order."""

    title: str
    contenders: Sequence[DemoRow]
    findings: Sequence[str]
    foot: str
    skipped: tuple[UnreadableImage, ...]
    page: Path

    columns = (
        "queries by",
        "old\nself",
        "old\ncross",
        "new\nself",
        "new\ncross",
        "all\nself",
        "all\ncross",
        "training\nimages",
        "seconds",
    )

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The table: recall@1 in percent."""
        return [
            (
                contender.title,
                *(
                    f"{contender.recall(test, group):.1f}"
                    for group in ("old", "new", "all")
                    for test in ("self", "cross")
                ),
                str(contender.images),
                f"{contender.seconds:.0f}",
            )
            for contender in self.contenders
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "title": self.title,
            "foot": self.foot,
            "findings": list(self.findings),
            "page": str(self.page),
            "skipped": len(self.skipped),
            "generations": [
                {
                    "title": contender.title,
                    "generation": contender.generation.name,
                    "method": contender.generation.card.method.name,
                    "training_images": contender.images,
                    "training_seconds": contender.seconds,
                    "self": {group: metrics.to_dict() for group, metrics in contender.self_test.items()},
                    "cross": {group: metrics.to_dict() for group, metrics in contender.cross_test.items()},
                }
                for contender in self.contenders
            ],
        }

"""What ``workspace.json`` holds: the promoted generation, and the pairs of generations that may be compared."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import DamagedError, RefusedError
from evergallery.files import read_json, write_json
from evergallery.network import Architecture, HeadKind

FORMAT = 1


class Pair(BaseModel):
    """Evidence that one generation's queries can search another's vectors."""

    model_config = ConfigDict(frozen=True)

    new: str
    old: str
    fingerprints: tuple[str, str]
    shown_by: Literal["check", "force"]
    evidence: str
    time: str


class State(BaseModel):
    """The state of a workspace; changed in memory, then written as a whole."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    architecture: Architecture
    preprocessing: dict[str, Any]
    head: HeadKind
    store: str = "gallery"
    promoted: str | None = None
    promotions: list[dict[str, str | None]] = Field(default_factory=list)
    compatible: list[Pair] = Field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "State":
        """Read ``workspace.json``.

        Raises:
            DamagedError: it cannot be read, or is of a newer format.
        """
        content = read_json(path)
        if isinstance(content, dict) and content.get("format", 0) > FORMAT:
            raise DamagedError(
                f"{path} has format {content['format']} and this version of Evergallery reads up to {FORMAT}: "
                f"install a newer Evergallery."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise DamagedError(
                f"{path} is not a workspace's state ({error.errors()[0]['msg']}): restore it from a backup."
            ) from error

    def write(self, path: Path) -> None:
        """Replace the file in one rename."""
        write_json(path, self.model_dump(mode="json"))

    def may_compare(self, one: str, other: str) -> bool:
        """Whether vectors of two fingerprints have been shown to be comparable."""
        return one == other or any(set(pair.fingerprints) == {one, other} for pair in self.compatible)

    def accept(self, pair: Pair) -> None:
        """Record a pair, in place of what was known about it."""
        self.compatible = [known for known in self.compatible if set(known.fingerprints) != set(pair.fingerprints)]
        self.compatible.append(pair)

    def withdraw(self, one: str, other: str) -> None:
        """Forget what a check has shown about two fingerprints; what was forced stands."""
        self.compatible = [
            pair for pair in self.compatible if set(pair.fingerprints) != {one, other} or pair.shown_by == "force"
        ]

    def promote(self, name: str, why: str) -> None:
        """Point to another generation."""
        self.promotions.append({"promoted": name, "before": self.promoted, "why": why, "time": now()})
        self.promoted = name

    def roll_back(self) -> str:
        """Point to the generation before, and return its name.

        Raises:
            RefusedError: there was none.
        """
        before = self.promotions[-1]["before"] if self.promotions else None
        if before is None:
            raise RefusedError("No generation was promoted before this one: there is nothing to go back to.")
        self.promotions.pop()
        self.promoted = before
        return before


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

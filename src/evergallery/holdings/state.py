"""The contents of ``workspace.json``: which generation answers, which spaces may be compared, which vectors are shown.

All of it changes together, in one rename, so that a reader sees the state before or after and never a blend.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import DamagedError, RefusedError, fault_of
from evergallery.files import read_json, write_json
from evergallery.gallery.items import View
from evergallery.holdings.answer import CHECKED, Answer
from evergallery.network.architecture import Architecture, HeadKind
from evergallery.strings.redaction import redacted

FORMAT = 2


class Pair(BaseModel):
    """Evidence that one generation's queries can search another's vectors."""

    model_config = ConfigDict(frozen=True)

    new: str
    old: str
    fingerprints: tuple[str, str]
    shown_by: Literal["check", "force"]
    evidence: str
    time: str
    adapter: str | None = None
    """Name of the adapter that queries go through, where they do."""
    best_adapter: str | None = None
    """Name of the best adapter that was measured, whether queries go through it or not."""

    def adapter_for(self, answer: Answer) -> str | None:
        """Name of the adapter that queries go through where they are answered so; ``None`` where they go directly."""
        if answer.way == "direct":
            return None
        return self.best_adapter or self.adapter if answer.way == "adapter" else self.adapter


@dataclass(frozen=True)
class PromotionReason:
    """The reason of a promotion.

    Attributes:
        why: in words.
        judged: what was compared, in words.
        refused: what the gate refused, where the generation was promoted all the same.
    """

    why: str
    judged: str | None = None
    refused: str | None = None


class Scale(BaseModel):
    """The map from a cosine between two spaces to a probability; see ``retrieval.calibration``."""

    model_config = ConfigDict(frozen=True)

    query: str
    """Fingerprint of the generation that queries."""
    item: str
    """Fingerprint of the space that is searched."""
    adapter: str | None
    slope: float
    intercept: float
    presence: tuple[float, float] | None = None
    """Slope and intercept from a query's best cosine to the probability that anything of its class is there, if measured."""


class Refresh(BaseModel):
    """Stored items that are being extracted again; their earlier vectors stay until it is committed."""

    model_config = ConfigDict(frozen=True)

    id: str
    generation: str
    """Name of the generation that it was begun for, which will query the new vectors."""
    asker: str | None = None
    """Fingerprint of that generation, which others may have, too; ``None`` where an earlier version began it."""
    fingerprint: str
    """Fingerprint of the space of the new vectors."""
    adapter: str | None = None
    """Name of the adapter that maps stored vectors, where no image is read."""
    shown: bool
    """True if searches see the new vectors, False if the earlier ones."""
    started: str

    def is_for(self, name: str, fingerprint: str) -> bool:
        """Return whether a generation will query the new vectors: any that has the fingerprint, for one network has one space."""
        asker = self.asker or (None if self.adapter else self.fingerprint)
        return name == self.generation if asker is None else fingerprint == asker

    @property
    def command(self) -> str:
        """The command that goes on with it."""
        return f"evergallery refresh {self.generation}{f' --with {self.adapter}' if self.adapter else ''}"


class State(BaseModel):
    """The state of a workspace; changed in memory, then written as a whole."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    architecture: Architecture
    preprocessing: dict[str, Any]
    head: HeadKind
    store: str = "gallery"
    promoted: str | None = None
    answer: Answer = CHECKED
    """The way of answering over vectors of other generations than the promoted one."""
    promotions: list[dict[str, Any]] = Field(default_factory=list)
    compatible: list[Pair] = Field(default_factory=list)
    scales: list[Scale] = Field(default_factory=list)
    refresh: Refresh | None = None
    refreshes: int = 0
    """The number of refreshes that were ever begun."""
    committed: list[str] = Field(default_factory=list)
    """Refreshes whose earlier vectors are still to be deleted."""
    discarded: list[str] = Field(default_factory=list)
    """Refreshes whose new vectors are still to be deleted."""
    image_roots: list[str] = Field(default_factory=list)
    """The roots below which images of stored items may be opened; see ``data.roots``."""
    require_token: bool = False
    """True if a server lets nobody in without a token: since the first one was made, whatever has become of it."""

    @classmethod
    def read(cls, path: Path) -> "State":
        """Read ``workspace.json``.

        Raises:
            DamagedError: it cannot be read, or is of a newer format.
        """
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise DamagedError(
                f"{path} has format {content['format']} and this version of Evergallery reads up to {FORMAT}: "
                f"install a newer Evergallery."
            )
        try:
            state = cls.model_validate(content)
        except ValidationError as error:
            raise DamagedError(
                f"{path} is not a workspace's state ({fault_of(error)}): restore it from a backup."
            ) from error
        # Earlier versions wrote down keys and options.
        state.store = redacted(state.store)
        return state

    def write(self, path: Path) -> None:
        """Replace the file in one rename; of one in an older format a copy is kept."""
        if path.is_file():
            before = read_json(path).get("format")
            copy = path.with_name(f"{path.stem}.format-{before}{path.suffix}")
            if before != FORMAT and not copy.exists():
                shutil.copy2(path, copy)
            self.format = FORMAT
        write_json(path, self.model_dump(mode="json"))

    def pair(self, asker: str, stored: str) -> Pair | None:
        """Return what is known of queries of one fingerprint among vectors of another: the adapter's way only one way round."""
        for pair in self.compatible:
            if pair.fingerprints == (asker, stored) or (pair.adapter is None and pair.fingerprints == (stored, asker)):
                return pair
        return None

    def may_compare(self, asker: str, stored: str) -> bool:
        """Return whether queries of one fingerprint have been shown to serve among vectors of another."""
        return asker == stored or self.pair(asker, stored) is not None

    def accept(self, pair: Pair) -> None:
        """Record a pair, in place of what was known about it."""
        self.compatible = [known for known in self.compatible if known.fingerprints != pair.fingerprints]
        self.compatible.append(pair)

    def withdraw(self, new: str, old: str) -> None:
        """Forget what a check has shown about two fingerprints; what was forced stands."""
        self.compatible = [
            pair for pair in self.compatible if pair.fingerprints != (new, old) or pair.shown_by == "force"
        ]

    def scale(self, asker: str, stored: str, adapter: str | None) -> Scale | None:
        """Return what is known of cosines between two fingerprints."""
        for scale in self.scales:
            if (scale.query, scale.item, scale.adapter) == (asker, stored, adapter):
                return scale
        return None

    def keep_scale(self, scale: Scale) -> None:
        """Record a scale, in place of what was known about it."""
        pair = (scale.query, scale.item, scale.adapter)
        kept = [known for known in self.scales if (known.query, known.item, known.adapter) != pair]
        self.scales = [*kept, scale]

    def view(self) -> View:
        """Return which versions of the stored items searches see."""
        shown, hidden = set(self.committed), set(self.discarded)
        if self.refresh:
            (shown if self.refresh.shown else hidden).add(self.refresh.id)
        return View(shown=frozenset(shown), hidden=frozenset(hidden))

    def may_miss(self, now: "State") -> bool:
        """Return whether vectors that searches see in this state may be gone, because the refresh was settled meanwhile."""
        return self.refresh is not None and (now.refresh is None or now.refresh.id != self.refresh.id)

    def promote(
        self,
        name: str,
        reason: PromotionReason,
        *,
        fingerprint: str,
        answer: Answer | None = None,
    ) -> None:
        """Point to another generation, or to another way of answering; vectors that were refreshed for it are shown from now on.

        Nothing changes where it answers so already, so that it never becomes its own predecessor.

        Args:
            name: of the generation.
            reason: as the history keeps it.
            fingerprint: of the generation.
            answer: how queries are answered; the usual way by default, or as now where the generation stays.
        """
        stays = name == self.promoted
        answer = answer or (self.answer if stays else CHECKED)
        if stays and answer == self.answer:
            return
        why, refused = reason.why, reason.refused
        if stays and self.forced is not None:
            # Another way of answering makes nobody forget what the gate refused.
            why, refused = f"{self.forced}; {why}", refused or str(self.last_promotion["refused"])
        shown = self.refresh.shown if self.refresh else False
        self.promotions.append(
            {
                "promoted": name,
                "before": self.promoted,
                "why": why,
                "judged": reason.judged,
                "refused": refused,
                "time": now(),
                "refresh shown before": shown,
                "answer": answer.model_dump(),
                "answer before": self.answer.model_dump(),
            }
        )
        self.promoted, self.answer = name, answer
        if self.refresh and self.refresh.is_for(name, fingerprint):
            self.show_refresh()

    def open_refresh(self, generation: str, asker: str, fingerprint: str, adapter: str | None = None) -> Refresh:
        """Begin a refresh, in the shadow, for a generation of the fingerprint ``asker``."""
        self.refreshes += 1
        self.refresh = Refresh(
            id=f"r{self.refreshes}",
            generation=generation,
            asker=asker,
            fingerprint=fingerprint,
            adapter=adapter,
            shown=False,
            started=now(),
        )
        return self.refresh

    def show_refresh(self) -> None:
        """Let searches see the new vectors of the open refresh."""
        if self.refresh:
            self.refresh = self.refresh.model_copy(update={"shown": True})

    @property
    def last_promotion(self) -> dict[str, Any]:
        """The one that ``roll_back`` undoes; empty without one. Older versions recorded some that changed nothing."""
        changed = (
            promotion
            for promotion in reversed(self.promotions)
            if promotion.get("before") != promotion.get("promoted")
            or promotion.get("answer") != promotion.get("answer before")
        )
        return next(changed, {})

    @property
    def forced(self) -> str | None:
        """The reason why the promoted generation answers against the gate; ``None`` where the gate let it."""
        last = self.last_promotion
        return str(last["why"]) if last.get("refused") else None

    def roll_back(self) -> str:
        """Point to the generation before, show the vectors that it searched, as it answered, and return its name.

        Raises:
            RefusedError: there was none.
        """
        last = self.last_promotion
        before = last.get("before")
        if not isinstance(before, str):
            raise RefusedError("No generation was promoted before this one: there is nothing to go back to.")
        while self.promotions.pop() is not last:
            pass
        self.promoted = before
        self.answer = Answer.model_validate(last.get("answer before") or {})
        if self.refresh:
            self.refresh = self.refresh.model_copy(update={"shown": bool(last.get("refresh shown before", False))})
        return before


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

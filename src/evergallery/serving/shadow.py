"""A sample of the searches by picture, answered by another generation too: beside the request, and never in its way."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from evergallery.errors import EvergalleryError, InputError, require_share
from evergallery.holdings.answer import Answer
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import State
from evergallery.searching.routes import Result
from evergallery.serving import schemas
from evergallery.serving.metrics import Metrics
from evergallery.upgrade.promotion import as_promoted

log = logging.getLogger("evergallery.serving")


@dataclass(frozen=True)
class ShadowSettings:
    """The settings of the comparison that is laid beside the answers.

    Attributes:
        generation: that answers too.
        sample: of the searches by picture, in (0, 1].
        answer: how it would answer over vectors of other generations.
    """

    generation: str
    sample: float
    answer: Answer = field(default_factory=Answer)

    def __post_init__(self) -> None:
        require_share("sample", self.sample, "searches")
        if self.answer.way == "rescore":
            raise InputError(
                "In the shadow nothing is scored again, because nothing would keep what is made: choose dual."
            )


AsIf = Callable[[bytes, schemas.SearchOptions, State], Awaitable[Sequence[Result]]]
"""A search by picture in another state; nothing is noted of it."""


class Shadow:
    """Compares answers, one at a time; a search that comes while another is compared is left out and counted.

    Args:
        holdings: of the workspace.
        shadowing: who answers too.
        ask: answers as if it were the promoted one.
        metrics: hear what was found.

    Raises:
        NotFoundError: there is no such generation.
        InputError: it cannot look at pictures.
    """

    def __init__(self, holdings: Holdings, shadowing: ShadowSettings, ask: AsIf, metrics: Metrics) -> None:
        if not holdings.generation(shadowing.generation).extracts:
            raise InputError(f"{shadowing.generation} has vectors only: in the shadow a generation looks at pictures.")
        self._holdings = holdings
        self._shadowing = shadowing
        self._ask = ask
        self._metrics = metrics
        self._draw = random.Random()
        self._running: asyncio.Task[None] | None = None
        self._compared = self._left_out = self._failed = self._same_first = 0
        self._overlap = self._shift = self._seconds = 0.0
        self._problem: str | None = None

    def offer(self, picture: bytes, options: schemas.SearchOptions, answer: schemas.Answer) -> None:
        """Take an answer into the sample, or not; returns at once."""
        asked_plainly = options.generation is None and options.min_score is None and options.min_probability is None
        if options.vectors == "own" or not asked_plainly or answer.generation == self._shadowing.generation:
            return
        if self._draw.random() >= self._shadowing.sample:
            return
        if self._running is not None and not self._running.done():
            self._left_out += 1
            self._metrics.shadowed("left out")
            return
        self._running = asyncio.create_task(self._compare(picture, options, answer))

    def told(self) -> schemas.Shadow:
        """Return what has been compared since the server was started."""
        count = self._compared
        return schemas.Shadow(
            generation=self._shadowing.generation,
            sample=self._shadowing.sample,
            way=self._shadowing.answer.way,
            compared=count,
            left_out=self._left_out,
            failed=self._failed,
            problem=self._problem,
            overlap=self._overlap / count if count else None,
            same_first=self._same_first / count if count else None,
            score_shift=self._shift / count if count else None,
            milliseconds=1000 * self._seconds / count if count else None,
        )

    def close(self) -> None:
        """Leave what is being compared."""
        if self._running is not None:
            self._running.cancel()

    async def _compare(self, picture: bytes, options: schemas.SearchOptions, answer: schemas.Answer) -> None:
        began = time.perf_counter()
        try:
            state = as_promoted(
                self._holdings, self._holdings.state, self._shadowing.generation, self._shadowing.answer
            )
            found = await self._ask(picture, options, state)
        except EvergalleryError as error:
            self._failed += 1
            self._metrics.shadowed("failed")
            if self._problem != str(error):
                self._problem = str(error)
                log.warning("%s could not answer in the shadow: %s", self._shadowing.generation, error)
            return
        seconds = time.perf_counter() - began
        before, after = [result.item.id for result in answer.results], [result.item.id for result in found]
        overlap = len(set(before) & set(after)) / max(1, len(before), len(after))
        same = before[:1] == after[:1]
        self._compared += 1
        self._same_first += same
        self._overlap += overlap
        self._seconds += seconds
        if answer.results and found:
            self._shift += found[0].score - answer.results[0].score
        self._metrics.shadowed("compared")
        self._metrics.compared(overlap, same, seconds)

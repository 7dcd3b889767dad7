"""A share of the clients is answered by another generation: always the same clients, after the gate, until it is promoted."""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from evergallery.errors import EvergalleryError, InputError, RefusedError, require_share
from evergallery.files import is_writable
from evergallery.holdings.answer import Answer
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import State
from evergallery.serving import schemas
from evergallery.upgrade.promotion import as_promoted, judge_with_refusal

log = logging.getLogger("evergallery.serving")

JUDGE_AGAIN_SECONDS = 60.0
"""The time for which a judgement holds while the state stays: policies and items change beside it."""


@dataclass(frozen=True)
class CanarySettings:
    """The clients that another generation answers, and how.

    Attributes:
        generation: that answers them.
        share: of the clients, in (0, 1].
        by: what a client is known by: ``token``, ``address``, ``client`` for the token or, without one, the address, or the name
            of a header.
        answer: how it answers over vectors of other generations.
        force: although the gate refuses it.
        why: the reason for that.
    """

    generation: str
    share: float
    by: str = "client"
    answer: Answer = field(default_factory=Answer)
    force: bool = False
    why: str | None = None

    def __post_init__(self) -> None:
        require_share("share", self.share, "clients")
        if self.answer.way == "rescore":
            raise InputError(
                "For some clients nothing is scored again, because nothing would keep what is made: choose dual."
            )
        if self.force and not (self.why and self.why.strip()):
            raise InputError(
                f"A canary against the evidence needs a reason: give it with  "
                f"evergallery serve --canary {self.generation} --share {self.share:g} --force --why REASON"
            )
        if not self.by or not self.by.isascii() or not self.by.replace("-", "").replace("_", "").isalnum():
            raise InputError(
                f"{self.by!r} is nothing that a client is known by: give token, address, or a header's name."
            )


class Canary:
    """Says who is answered by the other generation, and from which state.

    Args:
        holdings: of the workspace.
        canarying: which generation, for whom.

    Raises:
        NotFoundError: there is no such generation.
        InputError: it cannot look at pictures.
        RefusedError: the gate refuses it, and nobody forced it.
    """

    def __init__(self, holdings: Holdings, canarying: CanarySettings) -> None:
        generation = holdings.generation(canarying.generation)
        if not generation.extracts:
            raise InputError(f"{generation.name} has vectors only: a canary looks at pictures.")
        self._holdings = holdings
        self._canarying = canarying
        self._fingerprint = generation.fingerprint
        self._one_at_a_time = threading.Lock()
        self._basis: State | None = None
        self._state: State | None = None
        self._until = 0.0
        self._refused: str | None = None
        self._judged = ""
        self._answered = 0
        self._judge(holdings.state)
        if self._state is None and self._refused is not None:
            raise RefusedError(f"{self._refused} To let it answer some clients all the same, add  --force --why REASON")
        if is_writable(holdings.directory):
            holdings.journal.record(
                "canary",
                generation=generation.name,
                share=canarying.share,
                by=canarying.by,
                answer=str(canarying.answer),
                judged=self._judged,
                refused=self._refused,
                forced=self._refused is not None,
                why=canarying.why,
            )

    def drawn(self, token: str | None, address: str, headers: Mapping[str, str]) -> bool:
        """Return whether a client is one of those; who shows nothing that it could be known by is not.

        The hash of the client's key decides, so that it is the same in every process and after every restart, and a larger share
        takes more clients and loses none.

        Args:
            token: name of the client's token, where it has one.
            address: where the request comes from.
            headers: of the request; names in any case.
        """
        by = self._canarying.by
        if by == "client":
            key = f"token:{token}" if token else f"address:{address}"
        elif by == "token":
            key = f"token:{token}" if token else ""
        elif by == "address":
            key = f"address:{address}"
        else:
            given = headers.get(by, "").strip()
            key = f"header:{given}" if given else ""
        digest = hashlib.sha256(f"{self._fingerprint}\n{key}".encode()).digest()
        return bool(key) and int.from_bytes(digest[:8], "big") < self._canarying.share * 2**64

    def seen_from(self, state: State) -> State | None:
        """Return what the canary answers from in a state; ``None`` where the gate refuses it by now, or where it is promoted."""
        with self._one_at_a_time:
            if state is not self._basis or time.monotonic() >= self._until:
                try:
                    self._judge(state)
                except EvergalleryError as error:
                    # A policy or evidence that cannot be read lets nobody through, and costs no client an answer.
                    self._state, self._refused = None, str(error)
                    log.warning("the canary %s answers nobody: %s", self.generation, error)
            return self._state

    @property
    def generation(self) -> str:
        """The name of the generation that is the canary."""
        return self._canarying.generation

    @property
    def answers(self) -> bool:
        """Return whether the canary answered when it was last judged."""
        return self._state is not None

    def answered(self) -> None:
        """Count a client that the canary has answered."""
        with self._one_at_a_time:
            self._answered += 1

    def told(self) -> schemas.Canary:
        """Return what clients hear of the canary."""
        self.seen_from(self._holdings.state)
        return schemas.Canary(
            generation=self._canarying.generation,
            share=self._canarying.share,
            by=self._canarying.by,
            way=self._canarying.answer.way,
            answering=self._state is not None,
            judged=self._judged,
            refused=self._refused,
            why=self._canarying.why,
            answered=self._answered,
        )

    def _judge(self, state: State) -> None:
        wanted, before = self._canarying, self._state
        self._basis, self._until = state, time.monotonic() + JUDGE_AGAIN_SECONDS
        if state.promoted == wanted.generation:
            self._state, self._refused, self._judged = (
                None,
                None,
                "nothing, because it is promoted and answers everybody",
            )
            return
        found, refusal = judge_with_refusal(self._holdings, wanted.generation, wanted.answer, state)
        self._judged, self._refused = found.judged, None if refusal is None else str(refusal)
        if refusal is not None and not wanted.force:
            self._state = None
            if before is not None:
                log.warning("the canary %s answers nobody any more: %s", wanted.generation, refusal)
            return
        self._state = as_promoted(
            self._holdings, state, wanted.generation, wanted.answer, forced=None if refusal is None else wanted.why
        )

"""Advice on a generation's next step: after a check, after a refresh, or whenever somebody looks."""

from typing import TYPE_CHECKING

from evergallery.errors import BusyError, RefusedError
from evergallery.holdings.answer import CHECKED, Answer
from evergallery.holdings.comparing import answers_from_refresh, require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.promotion import judge, view_with

if TYPE_CHECKING:
    from evergallery.upgrade.check import Check, PairCheck


def next_step(
    holdings: Holdings, generation: str, check: "Check | None" = None, answer: Answer = CHECKED
) -> str | None:
    """Return what to do with a generation next, in a sentence with a command, as promotion would judge it now.

    Args:
        holdings: whose generation it is.
        generation: in question.
        check: that has just been made of it, which may know that an adapter would help.
        answer: how it would answer.

    Returns:
        ``None`` where nothing is to be done, or another process has the gallery.
    """
    candidate = Space(holdings.generation(generation))
    try:
        if generation == holdings.state.promoted:
            return _next_of_answering(holdings)
        found = judge(holdings, generation, answer)
        if found.failed:
            mapped = [pair.evidence.old for pair in check.pairs if _wants_adapter(pair)] if check else []
            if mapped:
                return f"Next:  evergallery adapt {generation} {mapped[0]} --pairs IMAGES"
            return found.next_step(generation)
        stored = stored_spaces(holdings, view=view_with(holdings, generation))
        require_compatible(holdings, candidate, stored, holdings.state.model_copy(update={"answer": answer}))
    except RefusedError as refusal:
        return str(refusal)
    except BusyError:
        return None
    promote = f"evergallery promote {generation}{answer.flags}"
    waiting = any(space.fingerprint != candidate.fingerprint for space in stored)
    if check and answer == CHECKED and waiting:
        if any(advice.answer is None for advice in check.advice):
            return f"Nothing has to be done. The gate would let  {promote}  pass."
        if any(advice.refresh or advice.answer not in (CHECKED, Answer.of("direct")) for advice in check.advice):
            return f"Next: what is advised above, or at once  {promote}"
    return f"Next:  {promote}"


def _wants_adapter(pair: "PairCheck") -> bool:
    """Return whether an adapter that nobody has made yet would let the queries pass."""
    return pair.verdict == "compatible after an adapter" and pair.serves.adapter is None


def _next_of_answering(holdings: Holdings) -> str | None:
    opened, promoted = holdings.state.refresh, holdings.promoted
    if opened is not None and not opened.shown:
        if not answers_from_refresh(holdings, holdings.state):
            return next_step(holdings, opened.generation)
        if promoted.extracts:
            return f"Next:  {opened.command}  , which shows the new vectors."
    if opened is not None and opened.shown:
        return (
            "Searches use the new vectors. The earlier ones stay, for the way back, until  evergallery refresh --commit"
        )
    if any(space.fingerprint != promoted.fingerprint for space in stored_spaces(holdings)):
        return f"What new vectors of the stored items would cost and give:  evergallery plan {promoted.name}"
    return None

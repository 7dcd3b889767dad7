"""The last check of each pair of spaces: its evidence in ``checks/``, and what it allows in ``workspace.json``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evergallery.errors import DamagedError, fault_of
from evergallery.files import read_object, write_json
from evergallery.holdings.answer import CHECKED, Answer
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Pair, Scale, State, now
from evergallery.retrieval.calibration import Calibration
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.gate import Gate, gate_of

if TYPE_CHECKING:
    from evergallery.upgrade.check import Check, PairCheck


def evidence_between(
    holdings: Holdings, new: Space, old: Space, answer: Answer | None = None, share: float = 0.0
) -> Evidence | None:
    """Return what the last check of two spaces found; ``None`` without one.

    Args:
        holdings: of the workspace.
        new: the space of the queries.
        old: the space that is searched.
        answer: how queries get there; by default directly, or through the adapter that serves.
        share: of the gallery that is refreshed, for the ways of answering that depend on it.
    """
    path = _evidence_path(holdings, new.name, old.name)
    if not path.is_file():
        return None
    content = read_check(path)
    pair = holdings.state.pair(new.fingerprint, old.fingerprint)
    answer = answer or CHECKED
    served = "adapted" if pair and pair.adapter and content["adapted"] else "direct"
    found = content[{"checked": served, "adapter": "adapted"}.get(answer.way, "direct")]
    if found is None:
        return None
    evidence = Evidence.model_validate(found)
    if evidence.fingerprints != (new.fingerprint, old.fingerprint):
        return None
    if not answer.looks_twice or old.adapter is not None:
        return evidence
    # Where the old model looks at no image, candidates are found as a check has shown that they may be.
    through = pair.adapter or "direct" if pair and answer.way == "rescore" and not old.maker.extracts else None
    return evidence.answered(answer, share, through)


AGAIN = "evergallery check GENERATION --data HELD_OUT"


def read_check(path: Path) -> dict[str, Any]:
    """Return what is kept of a check.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        content = read_object(path, verdict=str, reason=str, direct=dict, adapted=(dict, type(None)))
    except DamagedError as error:
        # What was measured can be measured again, with no backup.
        raise DamagedError(f"{path} cannot be read as the evidence of a check: make it again with  {AGAIN}") from error
    try:
        for found in (content["direct"], content["adapted"]):
            if found is not None:
                Evidence.model_validate(found)
    except ValidationError as error:
        raise DamagedError(
            f"{path} is not the evidence of a check ({fault_of(error)}): make it again with  {AGAIN}"
        ) from error
    return content


def remember(holdings: Holdings, result: "Check") -> None:
    """Keep the evidence, what it allows to be compared, and the scales of the cosines."""
    folder = holdings.directory / "checks"
    folder.mkdir(exist_ok=True)
    for pair in result.pairs:
        direct, adapted = pair.evidence, pair.adapted
        write_json(
            _evidence_path(holdings, direct.new, direct.old),
            {
                "verdict": pair.verdict,
                "reason": pair.reason,
                "direct": direct.model_dump(mode="json", by_alias=True),
                "adapted": adapted.model_dump(mode="json", by_alias=True)
                if adapted and not adapted.estimated
                else None,
            },
        )
    with changing(holdings, "remembering a check") as state:
        for pair in result.pairs:
            _allow(state, pair, gate_of(holdings))
    for pair in result.pairs:
        holdings.journal.record(
            "check",
            generation=pair.evidence.new,
            against=pair.evidence.old,
            verdict=pair.verdict,
            reason=pair.reason,
            conditions=[str(condition) for condition in pair.conditions],
            data=pair.evidence.data,
        )


def forget(holdings: Holdings, space: Space) -> None:
    """Take back what checks have shown of a space: it has other vectors than those that were measured. What was forced stands."""
    for path in (holdings.directory / "checks").glob("*-in-*.json"):
        if space.name in path.stem.split("-in-"):
            path.unlink()
    with changing(holdings, "taking checks back") as state:
        for new, old in [pair.fingerprints for pair in state.compatible if space.fingerprint in pair.fingerprints]:
            state.withdraw(new, old)


def _allow(state: State, pair: "PairCheck", gate: Gate) -> None:
    direct, through = pair.evidence, pair.serves
    if through.queries >= gate.queries and gate.compatible(through):
        state.accept(
            Pair(
                new=direct.new,
                old=direct.old,
                fingerprints=direct.fingerprints,
                shown_by="check",
                evidence=pair.reason,
                time=now(),
                adapter=through.adapter,
                best_adapter=pair.adapted.adapter if pair.adapted and not pair.adapted.estimated else None,
            )
        )
    else:
        state.withdraw(*direct.fingerprints)
    new, old = direct.fingerprints
    scales: list[tuple[str, str, str | None, Calibration | None]] = [
        (new, old, None, direct.calibrations["cross"]),
        (new, new, None, direct.calibrations["new self"]),
        (old, old, None, direct.calibrations["old self"]),
    ]
    scales += [(new, old, route.adapter, route.calibrations["cross"]) for route in pair.routes if not route.estimated]
    for query, item, adapter, scale in scales:
        if scale is not None:
            state.keep_scale(
                Scale(
                    query=query,
                    item=item,
                    adapter=adapter,
                    slope=scale.slope,
                    intercept=scale.intercept,
                    presence=scale.presence,
                )
            )


def _evidence_path(holdings: Holdings, new: str, old: str) -> Path:
    return holdings.directory / "checks" / f"{new}-in-{old}.json"

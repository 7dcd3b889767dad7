"""The kept check of two spaces, for a report that was given no held-out images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evergallery.errors import NotFoundError, StoredFileError
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.report.comparison import compared, heat_map
from evergallery.report.measurements import choose, promotion_of, searches
from evergallery.report.verdict import GateJudgement, gate_sentences
from evergallery.report.words import counted, interval_of, moment
from evergallery.retrieval.bootstrap import Interval
from evergallery.upgrade.evidence import Evidence, Test
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.kept_evidence import evidence_between, read_check


@dataclass(frozen=True)
class KeptCheck:
    """The last check of two spaces, as it is kept.

    Attributes:
        candidate: the generation that queries.
        base: the space that is searched.
        verdict: a word.
        reason: of it, in a sentence.
        evidence: of the route that serves.
    """

    candidate: Generation
    base: Space
    verdict: str
    reason: str
    evidence: Evidence


def kept_check(holdings: Holdings, generation: str | None = None, against: str | None = None) -> KeptCheck | None:
    """The check that a report goes by, of the newest generation that has one; ``None`` where none is kept.

    Of several checks of one generation it is that against the space that it would search, or else the latest.

    Args:
        holdings: of the workspace.
        generation: only checks of this one.
        against: only checks in vectors of this one.
    """
    found = [
        kept
        for kept in _kept_checks(holdings)
        if generation in (None, kept.candidate.name) and against in (None, kept.base.name)
    ]

    def rank(kept: KeptCheck) -> tuple[int, bool, str]:
        base = choose(holdings, kept.candidate.name, against)[1]
        return kept.candidate.number, base is not None and base.name == kept.base.name, kept.evidence.time

    return max(found, key=rank, default=None)


def _kept_checks(holdings: Holdings) -> Iterator[KeptCheck]:
    """Every check whose two spaces are still here, as they were measured; what cannot be read is named by the page elsewhere."""
    folder = holdings.directory / "checks"
    for path in sorted(folder.glob("*-in-*.json")) if folder.is_dir() else ():
        try:
            content = read_check(path)
            direct = Evidence.model_validate(content["direct"])
            candidate, base = holdings.generation(direct.new), holdings.space(direct.old)
        except (StoredFileError, NotFoundError):
            continue
        evidence = evidence_between(holdings, Space(candidate), base)
        if evidence is not None:
            yield KeptCheck(candidate, base, content["verdict"], content["reason"], evidence)


def kept_sections(holdings: Holdings, kept: KeptCheck) -> dict[str, Any]:
    """The verdict and the matrix, as the check has measured them and as the gate judges them today."""
    gate, evidence = gate_of(holdings), kept.evidence
    names = kept.base.name, kept.candidate.name

    def recall(test: Test) -> Interval:
        return interval_of(evidence.recall(test), evidence.queries, gate.confidence)

    judged = GateJudgement(
        *names[::-1],
        gate.conditions(evidence),
        searches(holdings, kept.candidate, kept.base.fingerprint),
        promotion_of(holdings, kept.candidate),
    )
    alone, cross, own = recall("old self"), recall("cross"), recall("new self")
    cells = {(names[0], names[0]): alone, (names[1], names[0]): cross, (names[1], names[1]): own}
    measured = (
        f"The check of {moment(evidence.time)} has measured this on {counted(evidence.queries, 'query', 'queries')}: "
        f"{evidence.protocol}."
    )
    return {
        "verdict": {
            "sentences": [f"{kept.verdict.capitalize()}: {kept.reason}", *gate_sentences(judged), measured],
            "conditions": judged.shown,
        },
        "matrix": {
            **heat_map(names, cells),
            "figures": [],
            "sentence": f"{compared(*names, (alone, cross, own), evidence.cross_change)} {measured}",
        },
    }

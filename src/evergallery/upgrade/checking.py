"""The verb ``check``: which generations are laid beside each other, and what is remembered of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evergallery.data.image_set import ImageSet
from evergallery.errors import BusyError, RefusedError
from evergallery.files import read_json, write_json
from evergallery.generations.generation import Generation
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Pair, Scale, State, now
from evergallery.retrieval.calibration import Calibration
from evergallery.upgrade.check import Check, Measured, PairCheck, Vectors, agreement, check_pair, compatibility
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.gate import ALL, Gate, Judged
from evergallery.upgrade.held_out import read_held_out
from evergallery.upgrade.promotion import comparisons
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.workspace import Workspace


def check_generation(
    workspace: "Workspace",
    generation: str,
    data: str | Path | ImageSet,
    *,
    against: str | None,
    best: str | None,
    old_classes: Sequence[str] | None,
    answers: str | Path | None,
    queries: str | None,
    gallery: str | None,
    data_dir: Path | None,
    watcher: Watcher,
) -> Check:
    """See ``Workspace.check``."""
    policy = workspace.gate
    new = Space(workspace.generation(generation))
    others = [space for space in opponents(workspace, new.maker, against, watcher) if space.name != new.name]
    reference = [Space(workspace.generation(best))] if best else []
    lineup = {space.name: space for space in (*others, *reference, new)}
    ordered = sorted(lineup.values(), key=lambda space: (space.maker.number, space.adapter is not None))
    held_out = read_held_out(
        workspace, data, ordered, old_classes=old_classes, answers=answers, queries=queries, gallery=gallery,
        data_dir=data_dir, watcher=watcher,
    )  # fmt: skip
    measured, images = held_out.spaces, held_out.protocol
    judged = _judged(workspace, new)
    if not held_out.labelled:
        agreements = tuple(agreement(images, measured[new.name], measured[other.name]) for other in others)
        names = tuple(space.name for space in ordered)
        return Check(
            new.name, names, images.description, images, held_out.excluded, {}, (), agreements, held_out.conclusion
        )
    pairs = tuple(
        check_pair(
            images, measured[new.name], measured[other.name], policy,
            adapters=through_adapters(workspace, measured[new.name], measured[other.name]),
            best=measured[best] if best else None, excluded=held_out.excluded,
            judged=judged.get(other.fingerprint, ALL),
        )
        for other in others
    )  # fmt: skip
    known = measured[others[-1].name if others else new.name].classes
    matrix = compatibility(images, [measured[space.name] for space in ordered], known)
    result = Check(
        new.name,
        tuple(space.name for space in ordered),
        images.description,
        images,
        held_out.excluded,
        matrix,
        pairs,
        conclusion=held_out.conclusion,
    )
    remember(workspace, result)
    return result


def _judged(workspace: "Workspace", new: Space) -> dict[str, Judged]:
    """By fingerprint of each space that a promotion is judged against, what it asks for."""
    if workspace.state.promoted == new.name:
        return {}
    try:
        return {one.space.fingerprint: one.judged for one in comparisons(workspace, new)}
    except (BusyError, RefusedError):
        # Nobody knows what would be searched, or what answers is gone: everything is asked for.
        return {}


def through_adapters(workspace: "Workspace", new: Measured, old: Measured) -> dict[str, tuple[Vectors, Vectors]]:
    """By name of each stored adapter of queries of ``new`` among vectors of ``old``: both as it compares them, (N, E)."""
    found = {}
    for stored in workspace.adapters():
        card = stored.card
        spaces = card.source.fingerprint, card.target.fingerprint
        if card.direction == "query" and spaces == (new.fingerprint, old.fingerprint):
            adapter = stored.adapter()
            found[card.name] = (
                adapter.query_side(torch.from_numpy(new.embeddings)).numpy(),
                adapter.stored_side(torch.from_numpy(old.embeddings)).numpy(),
            )
    return found


def evidence_between(workspace: "Workspace", new: Space, old: Space) -> Evidence | None:
    """See ``Workspace.evidence``."""
    path = _evidence_path(workspace, new.name, old.name)
    if not path.is_file():
        return None
    content = read_json(path)
    pair = workspace.state.pair(new.fingerprint, old.fingerprint)
    through = content["adapted"] if pair and pair.adapter and content["adapted"] else content["direct"]
    evidence = Evidence.model_validate(through)
    return evidence if evidence.fingerprints == (new.fingerprint, old.fingerprint) else None


def opponents(workspace: "Workspace", new: Generation, against: str | None, watcher: Watcher) -> list[Space]:
    """The spaces that ``against`` means, for a generation ``new``."""
    by_name = {generation.name: generation for generation in workspace.generations()}
    if against == "all":
        return [Space(generation) for generation in by_name.values()]
    if against is not None and against != "promoted":
        return [workspace.space(against)]
    promoted = workspace.promoted.name
    name = promoted if promoted != new.name else new.card.parent
    found = [Space(by_name[name])] if name in by_name else []
    if against == "promoted":
        return found
    try:
        stored = workspace.stored()
    except BusyError:
        watcher.said("the gallery is in use, so that only the promoted generation is compared with")
        return found
    return [*found, *(space for space in stored if space.name not in {one.name for one in found})]


def remember(workspace: "Workspace", result: Check) -> None:
    """Keep the evidence, what it allows to be compared, and the scales of the cosines."""
    folder = workspace.directory / "checks"
    folder.mkdir(exist_ok=True)
    for pair in result.pairs:
        direct, adapted = pair.evidence, pair.adapted
        write_json(
            _evidence_path(workspace, direct.new, direct.old),
            {
                "verdict": pair.verdict,
                "reason": pair.reason,
                "direct": direct.model_dump(mode="json", by_alias=True),
                "adapted": adapted.model_dump(mode="json", by_alias=True)
                if adapted and not adapted.estimated
                else None,
            },
        )
    with workspace.changing("remembering a check") as state:
        for pair in result.pairs:
            _allow(state, pair, workspace.gate)
    for pair in result.pairs:
        workspace.journal.record(
            "check", generation=pair.evidence.new, against=pair.evidence.old, verdict=pair.verdict,
            reason=pair.reason, conditions=[str(one) for one in pair.conditions], data=pair.evidence.data,
        )  # fmt: skip


def _allow(state: State, pair: PairCheck, gate: Gate) -> None:
    direct, through = pair.evidence, pair.serves
    if through.queries >= gate.queries and gate.compatible(through):
        state.accept(
            Pair(new=direct.new, old=direct.old, fingerprints=direct.fingerprints, shown_by="check",
                 evidence=pair.reason, time=now(), adapter=through.adapter)
        )  # fmt: skip
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
                Scale(query=query, item=item, adapter=adapter, slope=scale.slope, intercept=scale.intercept)
            )


def _evidence_path(workspace: "Workspace", new: str, old: str) -> Path:
    return workspace.directory / "checks" / f"{new}-in-{old}.json"

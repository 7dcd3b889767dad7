"""The verb ``check``: which generations are laid beside each other, and what is remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evergallery.adapters.stored import StoredAdapter
from evergallery.arguments.checking import checked
from evergallery.data.image_set import ImageSet
from evergallery.errors import (
    BusyError,
    InputError,
    ReadOnlyError,
    RefusedError,
    UnavailableError,
    require_at_least,
    require_count,
)
from evergallery.files import is_writable
from evergallery.generations.generation import Generation
from evergallery.holdings.answer import Answer, Way
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.check import EVERY, PROMOTED, Check, agreement, check_pair, compatibility
from evergallery.upgrade.gate import ALL, Condition, Gate, Scope, gate_of
from evergallery.upgrade.held_out import HeldOutImages, HeldOutSource, read_held_out
from evergallery.upgrade.kept_evidence import evidence_between, remember
from evergallery.upgrade.options import cost_of
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing, Vectors
from evergallery.upgrade.promotion import Comparison, comparisons
from evergallery.watching import SILENT, Watcher


def check(
    holdings: Holdings,
    generation: str,
    data: str | Path | ImageSet,
    *,
    against: str | None = None,
    best: str | None = None,
    old_classes: Sequence[str] | None = None,
    answers: str | Path | None = None,
    queries: str | None = None,
    gallery: str | None = None,
    price_per_hour: float | None = None,
    among: int = 1,
    answer: Answer | Way | None = None,
    ks: Sequence[int] = (),
    full_ranking: bool = False,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Check:
    """Measure a generation beside others on held-out images, and remember which spaces may be compared.

    In a workspace that cannot be written nothing is remembered. Images that one of them has learned from are left out and
    counted. Which answers are right is said by labels, or by ``answers``; without both only the agreement of the result lists
    is measured, and nothing is remembered.

    Args:
        generation: the one that would query.
        data: held-out images, a table of their embeddings, ``@gallery`` or ``@marks``: see
            ``evergallery.upgrade.held_out.HeldOutSource``, which has ``queries``, ``gallery``, ``ks`` and ``full_ranking``, too.
        against: whose vectors would be searched: a generation, an adapter that maps stored vectors, or ``all`` for the whole
            lineage; by default the promoted one (its parent, for that one itself) and whatever the gallery holds.
        best: a generation trained without the constraint of compatibility, for update gain and price.
        old_classes: names of the classes that the older generation knew, on which forgetting is measured. By default those
            that it has learned; where it knows none, as a registered model, the labels of its items in the gallery.
        answers: a table ``query,item[,grade]`` that says in place of labels which items are right for which queries.
        price_per_hour: of this machine, in whatever currency, for what each way of answering costs.
        among: how many candidates this is one of. Each of so many intervals is wider, so that all of them hold at once with the
            policy's confidence (Bonferroni); what is remembered is judged by them too.
        answer: the way of answering that is judged, as ``promote`` would with it; by default as the check shows.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: the images cannot be used, or none is left.
        NotFoundError: no such generation.
        ReadOnlyError: a way of answering is to be judged, which goes by what is remembered, and nothing can be.
    """
    policy = _policy(holdings, among)
    compared = _compared_spaces(holdings, generation, against, best, watcher)
    wanted = _way_to_judge(holdings, answer, compared)
    source = HeldOutSource(data, old_classes, answers, queries, gallery, ks, full_ranking, data_dir)
    criteria = _Criteria(policy, _asked_of_promotion(holdings, compared.new), price_per_hour)
    held_out = read_held_out(holdings, source, compared.ordered, watcher=watcher)
    _require_same(holdings, [space.maker for space in compared.ordered], watcher)
    if not held_out.labelled:
        return _without_labels(compared, held_out)
    result = _measure(holdings, compared, held_out, criteria, watcher)
    _remember(holdings, result, watcher)
    return result if wanted is None else _judged_by(holdings, result, compared, wanted, criteria)


@dataclass(frozen=True)
class _ComparedSpaces:
    """The spaces that a check lays beside each other.

    Attributes:
        new: the generation in question.
        others: the spaces that its queries would search.
        best: the generation that was trained without the constraint of compatibility, if one is named.
    """

    new: Space
    others: tuple[Space, ...]
    best: Space | None

    @property
    def ordered(self) -> list[Space]:
        """Each space once, the oldest generation first, and what an adapter maps after the generation that it maps."""
        every = (*self.others, *([self.best] if self.best else []), self.new)
        by_name = {space.name: space for space in every}
        return sorted(by_name.values(), key=lambda space: (space.maker.number, space.adapter is not None))


@dataclass(frozen=True)
class _Criteria:
    """The criteria that a generation is measured by.

    Attributes:
        policy: of the gate.
        asked: what a promotion would ask for, by the fingerprint of the other space.
        price_per_hour: of this machine.

    Raises:
        InputError: the price is below 0.
    """

    policy: Gate
    asked: Mapping[str, Comparison]
    price_per_hour: float | None

    def __post_init__(self) -> None:
        require_at_least("price_per_hour", self.price_per_hour, 0)

    def scope(self, other: Space) -> Scope:
        """Return what a promotion would ask for of the vectors of another space; everything where it would ask for nothing."""
        return self.asked[other.fingerprint].scope if other.fingerprint in self.asked else ALL

    def share(self, other: Space) -> float:
        """The share of the gallery that would be refreshed by then."""
        return self.asked[other.fingerprint].share if other.fingerprint in self.asked else 0.0


def _way_to_judge(holdings: Holdings, answer: Answer | Way | None, compared: _ComparedSpaces) -> Answer | None:
    """The way of answering that is judged, if one is asked for.

    Raises:
        InputError: it needs an adapter, and there is none.
        ReadOnlyError: it goes by what is remembered, and nothing can be.
    """
    wanted = Answer.of(answer) if isinstance(answer, str) else answer
    if wanted is not None and wanted.way == "adapter" and compared.others:
        new, others = compared.new, compared.others
        if not any(_query_adapters(holdings, new.fingerprint, other.fingerprint) for other in others):
            raise InputError(
                f"No adapter maps queries of {new.name} into vectors of {' or '.join(other.name for other in others)}: make one "
                f"with  evergallery adapt {new.name} {others[-1].name} --pairs IMAGES  or leave --answer out."
            )
    if wanted is not None and not is_writable(holdings.directory):
        raise ReadOnlyError(
            f"{holdings.directory} cannot be written, and a way of answering is judged by what is remembered: leave --answer out."
        )
    return wanted


def _policy(holdings: Holdings, among: int) -> Gate:
    """The gate, with the confidence that each of several candidates needs for all of them to hold at once."""
    require_count("among", among)
    policy = gate_of(holdings)
    return policy.model_copy(update={"confidence": 1 - (1 - policy.confidence) / among})


def _compared_spaces(
    holdings: Holdings, generation: str, against: str | None, best: str | None, watcher: Watcher
) -> _ComparedSpaces:
    new = Space(holdings.generation(generation))
    others = (space for space in opponents(holdings, new.maker, against, watcher) if space.name != new.name)
    return _ComparedSpaces(new, tuple(others), Space(holdings.generation(best)) if best else None)


def _without_labels(compared: _ComparedSpaces, held_out: HeldOutImages) -> Check:
    """Return how far the generations agree, where nobody knows which answers are right."""
    spaces, new = held_out.spaces, held_out.spaces[compared.new.name]
    found = tuple(agreement(held_out.protocol, new, spaces[other.name]) for other in compared.others)
    return _check_of(compared, held_out, agreements=found)


def _measure(
    holdings: Holdings, compared: _ComparedSpaces, held_out: HeldOutImages, criteria: _Criteria, watcher: Watcher
) -> Check:
    """The generation in question in the vectors of every other one, and the matrix of all of them.

    Args:
        holdings: of the workspace.
        compared: the spaces.
        held_out: labelled images, in each of them.
        criteria: that the generation is measured by.
        watcher: hears of progress.
    """
    spaces, new = held_out.spaces, held_out.spaces[compared.new.name]
    best = spaces[compared.best.name] if compared.best else None
    pairs = tuple(
        check_pair(
            Pairing(held_out.protocol, new, spaces[other.name], criteria.policy, best, held_out.excluded),
            adapters=through_adapters(holdings, new, spaces[other.name]),
            scope=criteria.scope(other),
            cost=cost_of(holdings, compared.new.maker, other, criteria.price_per_hour),
        )
        for other in compared.others
    )
    last = compared.others[-1] if compared.others else compared.new
    ordered = [spaces[space.name] for space in compared.ordered]
    matrix = compatibility(held_out.protocol, ordered, spaces[last.name].classes, watcher)
    return _check_of(compared, held_out, matrix=matrix, pairs=pairs)


def _check_of(compared: _ComparedSpaces, held_out: HeldOutImages, **found: Any) -> Check:
    return Check(
        candidate=compared.new.name,
        generations=tuple(space.name for space in compared.ordered),
        protocol=held_out.protocol.searched,
        images=held_out.protocol,
        excluded=held_out.excluded,
        conclusion=held_out.conclusion,
        **found,
    )


def _remember(holdings: Holdings, result: Check, watcher: Watcher) -> None:
    if is_writable(holdings.directory):
        remember(holdings, result)
    else:
        watcher.said("the workspace cannot be written, so that nothing of this check is remembered")


def _judged_by(
    holdings: Holdings, result: Check, compared: _ComparedSpaces, answer: Answer, criteria: _Criteria
) -> Check:
    """A check with the conditions that a promotion in a way of answering asks for."""
    pairs = []
    for pair, other in zip(result.pairs, compared.others, strict=True):
        evidence = evidence_between(holdings, compared.new, other, answer, criteria.share(other))
        if evidence is None:
            what = "no adapter is stored for it" if answer.way == "adapter" else "nobody has measured it"
            conditions: tuple[Condition, ...] = (Condition("way of answering", answer.way, what, False),)
        else:
            conditions = criteria.policy.conditions(evidence, criteria.scope(other))
        pairs.append(replace(pair, conditions=conditions, answer=answer))
    return replace(result, pairs=tuple(pairs))


def check_missing(holdings: Holdings, data: str | Path | ImageSet, *, watcher: Watcher = SILENT) -> list[Check]:
    """Measure every generation in the vectors of every older one where no check has; what checks have shown stays.

    Args:
        data: see ``check``.
        watcher: hears of progress.

    Raises:
        InputError: the images cannot be used.
    """
    ordered = sorted(holdings.generations(), key=lambda generation: generation.number)
    pairs = [(Space(new), Space(old)) for place, new in enumerate(ordered) for old in ordered[:place]]
    missing = [(new, old) for new, old in pairs if evidence_between(holdings, new, old) is None]
    found = []
    for place, (new, old) in enumerate(missing, start=1):
        watcher.said(f"{new.name} in vectors of {old.name}, pair {place} of {len(missing)}")
        found.append(check(holdings, new.name, data, against=old.name, watcher=watcher))
    return found


def compare(
    holdings: Holdings, /, candidates: Sequence[str], data: str | Path | ImageSet, **options: Any
) -> list[Check]:
    """Measure several candidates for one place on the same held-out images; the best one alone first.

    Who looks at enough models finds one that is better by chance. The intervals are wider by their number, so that with the
    policy's confidence none of them misses.

    Args:
        holdings: of the workspace.
        candidates: names of generations.
        data: see ``check``.
        **options: of ``check``, for each of them.

    Raises:
        InputError: fewer than two, or one twice.
    """
    if len(candidates) < 2 or len(set(candidates)) < len(candidates):
        raise InputError(
            f"{', '.join(candidates) or 'Nothing'} cannot be compared: name two candidates or more, each once."
        )
    for name in candidates:
        holdings.generation(name)
    found = [checked(check)(holdings, name, data, among=len(candidates), **options) for name in candidates]

    def recall_alone(result: Check) -> float:
        return result.matrix[result.candidate, result.candidate]["all"].recall[1] if result.matrix else 0.0

    return sorted(found, key=recall_alone, reverse=True)


def _require_same(holdings: Holdings, makers: Sequence[Generation], watcher: Watcher) -> None:
    """Ask endpoints for their probe pictures: what is kept of their embeddings would say nothing of another model there.

    Raises:
        DamagedError: one is not the model that was registered.
    """
    for maker in makers:
        if maker.is_asked:
            try:
                holdings.loaded.embedder(maker).require_same()
            except (UnavailableError, InputError) as error:
                watcher.said(f"nobody knows whether the model behind {maker.name} is still the same: {error}")


def _asked_of_promotion(holdings: Holdings, new: Space) -> dict[str, Comparison]:
    """Return what a promotion asks for, by the fingerprint of each space that it is judged against."""
    if holdings.state.promoted == new.name:
        return {}
    try:
        return {comparison.space.fingerprint: comparison for comparison in comparisons(holdings, new)}
    except (BusyError, RefusedError):
        # Nobody knows what would be searched, or what answers is gone: everything is asked for.
        return {}


def through_adapters(holdings: Holdings, new: EmbeddedSpace, old: EmbeddedSpace) -> dict[str, tuple[Vectors, Vectors]]:
    """Queries of ``new`` and vectors of ``old``, both (N, E) as an adapter between them compares them, by its name."""
    found = {}
    for stored in _query_adapters(holdings, new.fingerprint, old.fingerprint):
        adapter = stored.adapter()
        found[stored.card.name] = (
            adapter.query_side(torch.from_numpy(new.embeddings)).numpy(),
            adapter.stored_side(torch.from_numpy(old.embeddings)).numpy(),
        )
    return found


def _query_adapters(holdings: Holdings, new: str, old: str) -> list[StoredAdapter]:
    """The adapters that map queries of one space for vectors of another, by the fingerprints of both."""
    return [
        stored
        for stored in holdings.adapters()
        if stored.card.direction == "query"
        and (stored.card.source.fingerprint, stored.card.target.fingerprint) == (new, old)
    ]


def opponents(holdings: Holdings, new: Generation, against: str | None, watcher: Watcher) -> list[Space]:
    """The spaces that ``against`` means, for a generation ``new``."""
    by_name = {generation.name: generation for generation in holdings.generations()}
    if against == EVERY:
        return [Space(generation) for generation in by_name.values()]
    if against is not None and against != PROMOTED:
        return [holdings.space(against)]
    promoted = holdings.promoted.name
    name = promoted if promoted != new.name else new.card.parent
    found = [Space(by_name[name])] if name in by_name else []
    if against == PROMOTED:
        return found
    try:
        stored = stored_spaces(holdings)
    except BusyError:
        watcher.said("the gallery is in use, so that only the promoted generation is compared with")
        return found
    names = {space.name for space in found}
    return [*found, *(space for space in stored if space.name not in names)]

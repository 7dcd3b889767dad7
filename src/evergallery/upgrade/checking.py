"""The verb ``check``: which generations are laid beside each other, and what is remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evergallery.data.image_set import ImageSet
from evergallery.errors import BusyError, InputError, ReadOnlyError, RefusedError, UnavailableError
from evergallery.files import is_writable
from evergallery.generations.generation import Generation
from evergallery.holdings.answer import Answer, Way
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.check import Check, Measured, PairCheck, Vectors, agreement, check_pair, compatibility
from evergallery.upgrade.gate import ALL, Condition, Gate, Judged, gate_of
from evergallery.upgrade.held_out import read_held_out
from evergallery.upgrade.kept_evidence import evidence_between, remember
from evergallery.upgrade.options import cost_of
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
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Check:
    """Measure a generation beside others on held-out images, and remember which spaces may be compared.

    In a workspace that cannot be written nothing is remembered. Images that one of them has learned from are left out and
    counted. Which answers are right is said by labels, or by
    ``answers``; without both only the agreement of the result lists is measured, and nothing is remembered.

    Args:
        generation: the one that would query.
        data: held-out images; see ``evergallery.evaluation.protocol`` for which of them are queries. Where nothing can be
            extracted, a table of embeddings will do: an ``.npz`` with an array (N, D) for each generation under its name, or
            Parquet with such columns of lists; and (N,) ``labels`` (``label`` in Parquet), ``split``, ``ids`` (``id``) and
            ``answers`` (``answer``), each optional.
            ``@gallery`` stands for the stored items that have a label, ``@marks`` for the queries of which somebody has marked
            right results, among the stored items.
        against: whose vectors would be searched: a generation, an adapter that maps stored vectors, or ``all`` for
            the whole lineage; by default the promoted one (its parent, for that one itself) and whatever the gallery
            holds.
        best: a generation trained without the constraint of compatibility, for update gain and price.
        old_classes: names of the classes that the older generation knew, on which forgetting is measured. By default those
            that it has learned; where it knows none, as a registered model, the labels of its items in the gallery.
        answers: a ``.csv`` or Parquet table ``query,item[,grade]`` that says which items of the gallery are right for which
            queries: one row for one right answer, several rows for several, with grades above 0 for better and worse ones.
            Queries and items are named by item id, address, or file name. In place of labels.
        queries: split of the queries.
        gallery: split of the gallery; ``@gallery`` for the stored items, with all other images as queries.
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
    wanted = Answer.of(answer) if isinstance(answer, str) else answer
    if wanted is not None and not is_writable(holdings.directory):
        raise ReadOnlyError(
            f"{holdings.directory} cannot be written, and a way of answering is judged by what is remembered: leave --answer out."
        )
    if among < 1:
        raise InputError(f"A generation is not one of {among}: say how many candidates there are, at least one.")
    policy = gate_of(holdings)
    policy = policy.model_copy(update={"confidence": 1 - (1 - policy.confidence) / among})
    new = Space(holdings.generation(generation))
    others = [space for space in opponents(holdings, new.maker, against, watcher) if space.name != new.name]
    reference = [Space(holdings.generation(best))] if best else []
    lineup = {space.name: space for space in (*others, *reference, new)}
    ordered = sorted(lineup.values(), key=lambda space: (space.maker.number, space.adapter is not None))
    held_out = read_held_out(
        holdings, data, ordered, old_classes=old_classes, answers=answers, queries=queries, gallery=gallery,
        data_dir=data_dir, watcher=watcher,
    )  # fmt: skip
    _require_same(holdings, [space.maker for space in ordered], watcher)
    measured, images = held_out.spaces, held_out.protocol
    judged = _judged(holdings, new)
    if not held_out.labelled:
        agreements = tuple(agreement(images, measured[new.name], measured[other.name]) for other in others)
        names = tuple(space.name for space in ordered)
        return Check(
            new.name, names, images.description, images, held_out.excluded, {}, (), agreements, held_out.conclusion
        )
    pairs = tuple(
        check_pair(
            images, measured[new.name], measured[other.name], policy,
            adapters=through_adapters(holdings, measured[new.name], measured[other.name]),
            best=measured[best] if best else None, excluded=held_out.excluded,
            judged=_asked(judged, other), cost=cost_of(holdings, new.maker, other, price_per_hour),
        )
        for other in others
    )  # fmt: skip
    known = measured[others[-1].name if others else new.name].classes
    matrix = compatibility(images, [measured[space.name] for space in ordered], known, watcher)
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
    if is_writable(holdings.directory):
        remember(holdings, result)
    else:
        watcher.said("the workspace cannot be written, so that nothing of this check is remembered")
    if wanted is None:
        return result
    by_way = [
        _in_way(holdings, pair, new, other, wanted, judged.get(other.fingerprint), policy)
        for pair, other in zip(pairs, others, strict=True)
    ]
    return replace(result, pairs=tuple(by_way))


def check_missing(holdings: Holdings, data: str | Path | ImageSet, *, watcher: Watcher = SILENT) -> list[Check]:
    """Measure every generation in the vectors of every older one where no check has; what checks have shown stays.

    Args:
        data: see ``check``.
        watcher: hears of progress.

    Raises:
        InputError: the images cannot be used.
    """
    ordered = sorted(holdings.generations(), key=lambda one: one.number)
    pairs = [(Space(new), Space(old)) for place, new in enumerate(ordered) for old in ordered[:place]]
    missing = [(new, old) for new, old in pairs if evidence_between(holdings, new, old) is None]
    found = []
    for place, (new, old) in enumerate(missing, start=1):
        watcher.said(f"{new.name} in vectors of {old.name}, pair {place} of {len(missing)}")
        found.append(check(holdings, new.name, data, against=old.name, watcher=watcher))
    return found


def compare(holdings: Holdings, candidates: Sequence[str], data: str | Path | ImageSet, **options: Any) -> list[Check]:
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
    found = [check(holdings, name, data, among=len(candidates), **options) for name in candidates]
    return sorted(
        found, key=lambda one: -one.matrix[one.candidate, one.candidate]["all"].recall[1] if one.matrix else 0.0
    )


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


def _in_way(
    holdings: Holdings, pair: PairCheck, new: Space, old: Space, answer: Answer, asked: Comparison | None, policy: Gate
) -> PairCheck:
    """A pair with the conditions that a promotion in a way of answering asks for."""
    evidence = evidence_between(holdings, new, old, answer, 0.0 if asked is None else asked.share)
    if evidence is None:
        what = "no adapter is stored for it" if answer.way == "adapter" else "nobody has measured it"
        missing = Condition("way of answering", answer.way, what, False)
        return replace(pair, conditions=(missing,), answer=answer)
    return replace(pair, conditions=policy.conditions(evidence, ALL if asked is None else asked.judged), answer=answer)


def _asked(judged: Mapping[str, Comparison], other: Space) -> Judged:
    found = judged.get(other.fingerprint)
    return ALL if found is None else found.judged


def _judged(holdings: Holdings, new: Space) -> dict[str, Comparison]:
    """By fingerprint of each space that a promotion is judged against, what it asks for."""
    if holdings.state.promoted == new.name:
        return {}
    try:
        return {one.space.fingerprint: one for one in comparisons(holdings, new)}
    except (BusyError, RefusedError):
        # Nobody knows what would be searched, or what answers is gone: everything is asked for.
        return {}


def through_adapters(holdings: Holdings, new: Measured, old: Measured) -> dict[str, tuple[Vectors, Vectors]]:
    """By name of each stored adapter of queries of ``new`` among vectors of ``old``: both as it compares them, (N, E)."""
    found = {}
    for stored in holdings.adapters():
        card = stored.card
        spaces = card.source.fingerprint, card.target.fingerprint
        if card.direction == "query" and spaces == (new.fingerprint, old.fingerprint):
            adapter = stored.adapter()
            found[card.name] = (
                adapter.query_side(torch.from_numpy(new.embeddings)).numpy(),
                adapter.stored_side(torch.from_numpy(old.embeddings)).numpy(),
            )
    return found


def opponents(holdings: Holdings, new: Generation, against: str | None, watcher: Watcher) -> list[Space]:
    """The spaces that ``against`` means, for a generation ``new``."""
    by_name = {generation.name: generation for generation in holdings.generations()}
    if against == "all":
        return [Space(generation) for generation in by_name.values()]
    if against is not None and against != "promoted":
        return [holdings.space(against)]
    promoted = holdings.promoted.name
    name = promoted if promoted != new.name else new.card.parent
    found = [Space(by_name[name])] if name in by_name else []
    if against == "promoted":
        return found
    try:
        stored = stored_spaces(holdings)
    except BusyError:
        watcher.said("the gallery is in use, so that only the promoted generation is compared with")
        return found
    return [*found, *(space for space in stored if space.name not in {one.name for one in found})]

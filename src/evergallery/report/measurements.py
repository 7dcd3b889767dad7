"""Everything that a report says of held-out images; nothing in the workspace is changed, but for cached embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evergallery.data.image_set import ImageSet
from evergallery.errors import BusyError, EvergalleryError, InputError
from evergallery.evaluation import GROUPS
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.report.prototypes import PrototypeMap, prototype_map
from evergallery.report.refreshing import RefreshCurves, measured_curves
from evergallery.report.words import interval_of
from evergallery.retrieval.bootstrap import Interval
from evergallery.retrieval.width import in_width_of
from evergallery.upgrade.check import Check, PairCheck, agreement, check_pair, compatibility
from evergallery.upgrade.checking import through_adapters
from evergallery.upgrade.embedding_table import holds_embeddings
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.held_out import HeldOutImages, HeldOutSource, read_held_out
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing
from evergallery.upgrade.plan import Plan
from evergallery.upgrade.planning import plan
from evergallery.upgrade.promotion import view_with
from evergallery.upgrade.ways import RouteVectors
from evergallery.watching import Watcher


@dataclass(frozen=True)
class Measurements:
    """The results of held-out images.

    Attributes:
        check: the generations side by side, with the candidate in the vectors of the base as its only pair.
        base: name of the generation whose vectors are searched and whose classes count as old; ``None`` where there is
            one generation only.
        old_classes: how many of the base's classes there are among the images.
        updates: by name, every generation after the base in its vectors; without labels none.
        spaces: by name.
        left_out: names of generations of which only stored vectors are known.
        confidence: of every interval.
        curves: of a refresh from the base to the candidate.
        prototypes: of the base and the candidate.
        plan: of the same refresh for the items in the gallery.
        no_plan: why there is none.
        searched: whether queries of the candidate meet vectors of the base: while it answers, or once it does.
        promotion: of the candidate, where it answers queries.
    """

    check: Check
    base: str | None
    old_classes: int
    updates: Mapping[str, PairCheck]
    spaces: Mapping[str, EmbeddedSpace]
    left_out: tuple[str, ...]
    confidence: float
    curves: RefreshCurves | None
    prototypes: PrototypeMap | None
    plan: Plan | None
    no_plan: str
    searched: bool = True
    promotion: Mapping[str, str | bool | None] | None = None

    @property
    def candidate(self) -> str:
        """Name of the generation in question."""
        return self.check.candidate

    @property
    def labelled(self) -> bool:
        """Return whether the images have labels."""
        return bool(self.check.matrix)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of classes that can be told apart: old, new and all, or all only."""
        known = self.base is not None and bool(self.spaces[self.base].classes)
        found = set().union(*self.check.matrix.values())
        return tuple(group for group in GROUPS if group in found and (known or group == "all"))

    def recall(self, query: str, gallery: str, group: str = "all") -> Interval | None:
        """recall@1 of one generation's queries in another's vectors; ``None`` where it was not measured."""
        found = self.check.matrix.get((query, gallery), {}).get(group)
        return None if found is None or not found.queries else self.interval(found.recall[1], found.queries)

    def interval(self, share: float, queries: int) -> Interval:
        """A share of queries with its interval."""
        return interval_of(share, queries, self.confidence)


def choose(holdings: Holdings, generation: str | None, against: str | None) -> tuple[Generation, Generation | None]:
    """The generation in question, the newest by default, and the one whose vectors it would search.

    That one is by default the promoted generation, or where this is the newest itself its parent, or the one before it.

    Raises:
        NotFoundError: no such generation.
        InputError: the one that would be searched is not older.
    """
    everything = holdings.generations()
    candidate = holdings.generation(generation) if generation else everything[-1]
    if against is not None:
        base = holdings.generation(against)
        if base.number >= candidate.number:
            raise InputError(
                f"{against} is not older than {candidate.name}: name an older generation with --against, or a newer one with "
                f"--generation."
            )
        return candidate, base
    older = {generation.name: generation for generation in everything if generation.number < candidate.number}
    for name in (holdings.state.promoted, candidate.card.parent, *reversed(older)):
        if name in older:
            return candidate, older[name]
    return candidate, None


def measure_held_out(
    holdings: Holdings, source: HeldOutSource, candidate: Generation, base: Generation | None, watcher: Watcher
) -> Measurements:
    """Look at held-out images with every generation and lay them side by side.

    Args:
        holdings: whose generations these are.
        source: of the held-out images.
        candidate: the generation in question.
        base: the one whose vectors it would search.
        watcher: hears of progress.

    Raises:
        InputError: the images cannot be used.
    """
    everything = holdings.generations()
    asked = {candidate.name, base.name if base else None}
    # Of vectors without a model only stored images are known, which would shrink what the others are measured on.
    shown = [generation for generation in everything if generation.extracts or generation.name in asked]
    held_out = read_held_out(holdings, source, [Space(generation) for generation in shown], watcher=watcher)
    if held_out.protocol.judgements is not None:
        raise InputError(
            "A report is made of labelled images: leave the answers out here, and give them to  evergallery check "
            f"{shown[-1].name} --data HELD_OUT --answers ANSWERS"
        )
    updates: dict[str, PairCheck] = {}
    if held_out.labelled:
        watcher.said("comparing the generations")
        updates = _updates(holdings, held_out, shown, base)
    refresh = _Refresh()
    if held_out.labelled and base is not None:
        plan, no_plan = _plan(holdings, candidate, source, watcher)
        refresh = _refresh(holdings, held_out, candidate, base, updates[candidate.name])
        refresh = replace(refresh, plan=plan, no_plan=no_plan)
    return Measurements(
        check=_check(held_out, shown, candidate, base, updates),
        base=base.name if base else None,
        old_classes=_old_classes(held_out, base or candidate),
        updates=updates,
        spaces=held_out.spaces,
        left_out=tuple(generation.name for generation in everything if generation not in shown),
        confidence=gate_of(holdings).confidence,
        curves=refresh.curves,
        prototypes=refresh.prototypes,
        plan=refresh.plan,
        no_plan=refresh.no_plan if held_out.labelled else "",
        searched=base is None or searches(holdings, candidate, base.fingerprint),
        promotion=promotion_of(holdings, candidate),
    )


def searches(holdings: Holdings, candidate: Generation, fingerprint: str) -> bool:
    """Return whether the candidate's queries meet vectors of a space; also while nobody can look, or the gallery is empty."""
    try:
        held = {space.fingerprint for space in stored_spaces(holdings, view=view_with(holdings, candidate.name))}
    except BusyError:
        return True
    return not held or fingerprint in held


def promotion_of(holdings: Holdings, candidate: Generation) -> Mapping[str, str | bool | None] | None:
    """The last promotion, where it is that of this generation."""
    return holdings.state.last_promotion if holdings.state.promoted == candidate.name else None


@dataclass(frozen=True)
class _Refresh:
    """The expected result of a refresh from the base to the candidate."""

    curves: RefreshCurves | None = None
    prototypes: PrototypeMap | None = None
    plan: Plan | None = None
    no_plan: str = "There is no older generation whose vectors could be refreshed."


def _old_classes(held_out: HeldOutImages, known_to: Generation) -> int:
    """Return how many of the classes that a generation knows there are among the images."""
    if not held_out.labelled:
        return 0
    images = held_out.protocol.images
    present = {images.classes[label] for label in set(images.labels.tolist())}
    return len(present & set(held_out.spaces[known_to.name].classes))


def _updates(
    holdings: Holdings, held_out: HeldOutImages, shown: Sequence[Generation], base: Generation | None
) -> dict[str, PairCheck]:
    """Every generation after the base in its vectors, by name."""
    spaces, policy = held_out.spaces, gate_of(holdings)
    return {
        maker.name: check_pair(
            Pairing(held_out.protocol, spaces[maker.name], spaces[base.name], policy, excluded=held_out.excluded),
            adapters=through_adapters(holdings, spaces[maker.name], spaces[base.name]),
        )
        for maker in shown
        if base is not None and maker.number > base.number
    }


def _check(
    held_out: HeldOutImages,
    shown: Sequence[Generation],
    candidate: Generation,
    base: Generation | None,
    updates: Mapping[str, PairCheck],
) -> Check:
    """The generations side by side; without labels no more than how far the results of two agree."""
    protocol, spaces = held_out.protocol, held_out.spaces
    names = tuple(generation.name for generation in shown)
    if not held_out.labelled:
        agreements = (agreement(protocol, spaces[candidate.name], spaces[base.name]),) if base else ()
        return Check(candidate.name, names, protocol.searched, protocol, held_out.excluded, {}, (), agreements)
    matrix = compatibility(protocol, [spaces[name] for name in names], spaces[(base or candidate).name].classes)
    pairs = (updates[candidate.name],) if base else ()
    return Check(candidate.name, names, protocol.searched, protocol, held_out.excluded, matrix, pairs)


def _refresh(
    holdings: Holdings, held_out: HeldOutImages, candidate: Generation, base: Generation, pair: PairCheck
) -> _Refresh:
    """The curves of a refresh, and where classes move."""
    images, old, new = held_out.protocol.images, held_out.spaces[base.name], held_out.spaces[candidate.name]
    way = pair.serves
    direct = in_width_of(new.embeddings, old.embeddings), old.embeddings
    mapped, searched = through_adapters(holdings, new, old).get(way.adapter or "", direct)
    before = RouteVectors(mapped, searched, way.calibrations["cross"])
    after = RouteVectors(new.embeddings, new.embeddings, way.calibrations["new self"])
    return _Refresh(
        measured_curves(held_out.protocol, old.embeddings, before, after),
        prototype_map(old.embeddings, new.embeddings, images.labels, images.classes, base.card.classes),
    )


def _plan(
    holdings: Holdings, candidate: Generation, source: HeldOutSource, watcher: Watcher
) -> tuple[Plan | None, str]:
    """The plan of a refresh, or why there is none."""
    try:
        # Held-out images are often those that were indexed; a table of embeddings has none.
        has_images = isinstance(source.data, ImageSet) or not holds_embeddings(Path(source.data))
        images = source.data if has_images else None
        return plan(holdings, candidate.name, images=images, data_dir=source.data_dir, watcher=watcher), ""
    except EvergalleryError as error:
        return None, str(error)

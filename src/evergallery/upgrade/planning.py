"""The verb ``plan``: what a refresh would cost and give, measured on a sample of the stored items."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import whole_classes
from evergallery.gallery.items import Item, View
from evergallery.holdings.comparing import space_of
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import ImageReader
from evergallery.holdings.spaces import Space
from evergallery.upgrade.kept_plan import identity_of, keep, known
from evergallery.upgrade.orders import ORDERS
from evergallery.upgrade.plan import LEAST_SAMPLE, SAMPLE, SHARES, Plan, PlanBasis, RefreshProposal, SampleMeasurements
from evergallery.upgrade.renewal import before_refresh, given_images, target_of, to_refresh
from evergallery.watching import SILENT, Watcher

ARRIVALS = ("index", "import", "add")
"""Operations of the journal by which items come into the gallery."""


def plan(
    holdings: Holdings,
    generation: str,
    *,
    adapter: str | None = None,
    images: str | Path | ImageSet | None = None,
    price_per_hour: float | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Plan:
    """Return what refreshing the gallery for a generation would cost, and what each share of it is expected to give.

    Nothing is changed. Recall is measured on a sample of the stored items that have labels and whose images are found.

    Args:
        generation: that would query.
        adapter: that would map the stored vectors, in place of extracting images again.
        images: where to look for the images first, by content; each item's URI otherwise.
        price_per_hour: of this machine, in whatever currency, for what each way of answering costs.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: there is nothing to refresh.
    """
    proposal = RefreshProposal(generation, adapter, images, SHARES, tuple(ORDERS), data_dir, price_per_hour)
    return measured_plan(holdings, proposal, watcher)


def measured_plan(holdings: Holdings, proposal: RefreshProposal, watcher: Watcher) -> Plan:
    """The plan of a refresh at the shares and in the orders of a proposal; see ``plan``.

    Of a sample of which nothing has changed since an earlier plan, it says what that one has measured.
    """
    asker = Space(holdings.generation(proposal.generation))
    target = target_of(holdings, proposal.generation, proposal.adapter)
    view = before_refresh(holdings)
    held = holdings.gallery.count_by_generation(view=view)
    counts = {space: count for space, count in held.items() if space != target.fingerprint}
    items = to_refresh(holdings, target, view)
    sampled, labelled = _sampled(holdings, items, view)
    orders = _informed(holdings, proposal.orders) if labelled else None
    found = _known_or_measured(holdings, PlanBasis(proposal, asker, target, counts, sampled, orders), watcher)
    count, size = sum(counts.values()), max(1, len(sampled))
    # float32, and what is written of an item beside its vector, once as such and once to be searched by.
    texts = [len(text or "") for item in sampled for text in (item.id, item.label, item.uri, item.content_hash)]
    return Plan(
        generation=proposal.generation,
        adapter=proposal.adapter,
        items={space_of(holdings, space).name: number for space, number in counts.items()},
        missing=found.missing / size,
        seconds=found.seconds / size * count if target.adapter is None else 0.0,
        bytes=(4 * target.dimension + 2 * sum(texts) // size) * count,
        sample=found.sample,
        queries=found.curves.queries,
        shares=tuple(proposal.shares),
        recall=found.curves.recall,
        uncalibrated=found.curves.uncalibrated,
        images=found.images,
        options=found.options,
        advice=found.advice,
    )


def _known_or_measured(holdings: Holdings, basis: PlanBasis, watcher: Watcher) -> SampleMeasurements:
    """Return what was measured of a sample before, or else is now."""
    identity, proposal = identity_of(holdings, basis), basis.proposal
    before = None if identity is None else known(holdings, basis, identity)
    if before is not None:
        watcher.said(f"measured before on {len(basis.sampled)} stored items; nothing has changed since")
        return before
    # Networks and metrics need torch, what is known does not.
    from evergallery.upgrade.sample import measured

    given = given_images(ImageReader(holdings, proposal.data_dir, watcher), proposal.images, basis.asker, basis.sampled)
    watcher.said(f"measuring on {len(basis.sampled)} stored items")
    found = measured(holdings, basis, given, watcher)
    if identity is not None:
        keep(holdings, basis, identity, found)
    return found


def _sampled(holdings: Holdings, items: Sequence[Item], view: View) -> tuple[list[Item], bool]:
    """Items to measure on, with their vectors, and whether enough of them have a label."""
    rows = whole_classes([item.label for item in items], SAMPLE)
    labelled = len(rows) >= LEAST_SAMPLE
    if not labelled:
        rows = np.random.default_rng(0).permutation(len(items))[: SAMPLE // 4]
    names = [items[row].id for row in rows]
    found = holdings.gallery.get_many(names, view=view)
    return [found[name] for name in names if name in found], labelled


def _informed(holdings: Holdings, orders: Sequence[str]) -> list[str]:
    """The orders of which something is known: before a search nothing is popular, and what came in one go has one age."""
    arrivals = [entry for entry in holdings.journal.entries() if entry["operation"] in ARRIVALS and entry.get("added")]
    unknown = {"popular"} if not holdings.notes.times_found() else set()
    unknown |= {"oldest"} if len(arrivals) < 2 else set()
    return [order for order in orders if order not in unknown]

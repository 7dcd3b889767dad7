"""A map between the spaces of two finished generations, chosen on pairs of embeddings of the same images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from evergallery.adapters import ADAPTERS, Adapter, Direction
from evergallery.adapters.card import NamedSpace
from evergallery.adapters.selection import Fit, Selection, default_fits, require_pairs, select_adapter
from evergallery.adapters.stored import Fitting, StoredAdapter, adapter_directory_name
from evergallery.data.image_set import ImageSet
from evergallery.devices.computing import computed
from evergallery.errors import InputError, require_known
from evergallery.files import lock
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.held_out import HeldOutSource, read_held_out
from evergallery.watching import SILENT, Watcher

PASSES = 200
"""Products of every pair with a whole map that choosing among the kinds takes, about: most of them train the small network."""


@dataclass(frozen=True)
class Adaptation:
    """The adapter that was made, and what was tried."""

    adapter: StoredAdapter
    selection: Selection


def adapt(
    holdings: Holdings,
    new: str,
    old: str,
    pairs: str | Path | ImageSet,
    *,
    direction: Direction = "query",
    kind: str | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Adaptation:
    """Make an adapter between two generations that nobody can or will retrain.

    Kinds of adapters are fitted to a part of the pairs and judged on the rest; the best is stored. It serves once
    ``check`` has shown that it may: queries then go through it by themselves.

    Args:
        new: the generation that queries.
        old: the generation whose vectors are stored.
        pairs: images that both look at, in any form that ``learn`` reads, labels optional; or an ``.npz`` with their
            embeddings, see ``check``.
        direction: ``query`` maps new queries into the old space; ``gallery`` maps stored vectors into the new one, for
            ``refresh(..., adapter=...)``, without any image.
        kind: one of ``evergallery.adapters.ADAPTERS``; by default all that fit are tried.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: the pairs cannot be used.
    """
    spaces = Space(holdings.generation(new)), Space(holdings.generation(old))
    spaces[0].require_other(spaces[1])
    source, target = spaces if direction == "query" else spaces[::-1]
    fits = _fits(kind, direction, source, target)
    asked = HeldOutSource(pairs, data_dir=data_dir, enough=require_pairs)
    held_out = read_held_out(holdings, asked, spaces, watcher=watcher, exclude=False)
    images = held_out.protocol.images
    watcher.said(f"fitting {kind or f'{len(fits)} kinds of adapters'} to {len(images)} pairs")
    selection = computed(
        PASSES * len(images) * source.dimension * target.dimension,
        select_adapter,
        torch.from_numpy(held_out.spaces[source.name].embeddings),
        torch.from_numpy(held_out.spaces[target.name].embeddings),
        torch.from_numpy(images.labels) if held_out.labelled else None,
        direction=direction,
        fits=fits,
    )
    fitting = Fitting(
        direction=direction,
        source=NamedSpace(name=source.name, fingerprint=source.fingerprint),
        target=NamedSpace(name=target.name, fingerprint=target.fingerprint),
        pairs=selection.pairs,
        data=images.fingerprint(),
        figures=selection.to_dict(),
    )
    stored = _store(holdings, selection.adapter, fitting)
    _record(holdings, stored.name, fitting, selection)
    return Adaptation(stored, selection)


def _record(holdings: Holdings, name: str, fitting: Fitting, selection: Selection) -> None:
    """Note in the journal which adapter was made, and what its choice went by."""
    chosen = selection.chosen
    holdings.journal.record(
        "adapt",
        adapter=name,
        kind=selection.name,
        source=fitting.source.name,
        target=fitting.target.name,
        direction=fitting.direction,
        pairs=selection.pairs,
        measure=selection.measure,
        in_sample=round(chosen.in_sample.recall, 4),
        out_of_sample=round(chosen.worse.recall, 4),
    )


def _fits(kind: str | None, direction: Direction, source: Space, target: Space) -> dict[str, Fit]:
    """Return what is tried: the kind that is asked for, or all that fit.

    Raises:
        InputError: there is no such kind, or it does not fit.
    """
    fitting = default_fits(direction, source.dimension, target.dimension)
    if kind is None:
        return fitting
    require_known("adapter", kind, ADAPTERS)
    if not ADAPTERS[kind].serves(direction, source.dimension, target.dimension):
        raise InputError(
            f"The adapter {kind!r} does not map {source.dimension} to {target.dimension} dimensions for the {direction}: "
            f"choose {', '.join(fitting)}."
        )
    return {kind: ADAPTERS[kind].fit_for(direction)}


def _store(holdings: Holdings, adapter: Adapter, fitting: Fitting) -> StoredAdapter:
    """Write an adapter under the next number."""
    folder = holdings.directory / "adapters"
    folder.mkdir(exist_ok=True)
    with lock(folder / ".lock", "making an adapter"):
        number = max((stored.number for stored in holdings.adapters()), default=0) + 1
        return StoredAdapter.write(folder / adapter_directory_name(number), adapter, f"a{number}", fitting)

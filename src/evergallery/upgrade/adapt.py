"""A map between the spaces of two finished generations, chosen on pairs of embeddings of the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evergallery.adapters import ADAPTERS, Direction
from evergallery.adapters.selection import Selection, default_fits, select_adapter
from evergallery.adapters.stored import Space as CardSpace
from evergallery.adapters.stored import StoredAdapter, adapter_directory_name
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.files import lock
from evergallery.holdings.spaces import Space
from evergallery.upgrade.held_out import read_held_out
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.workspace import Workspace


@dataclass(frozen=True)
class Adapted:
    """The adapter that was made, and what was tried."""

    adapter: StoredAdapter
    selection: Selection


def adapt(
    workspace: "Workspace",
    new: str,
    old: str,
    pairs: str | Path | ImageSet,
    *,
    direction: Direction,
    kind: str | None,
    data_dir: Path | None,
    watcher: Watcher,
) -> Adapted:
    """Fit adapters between two generations and store the one that does best on pairs that it has not seen.

    Raises:
        InputError: the pairs cannot be used, or no such kind.
        BusyError: another process makes an adapter.
    """
    if kind is not None and kind not in ADAPTERS:
        raise InputError(f"There is no adapter {kind!r}: choose {', '.join(ADAPTERS)}.")
    spaces = Space(workspace.generation(new)), Space(workspace.generation(old))
    if new == old:
        raise InputError(f"{new} and {old} are the same generation: there is nothing to adapt.")
    source, target = spaces if direction == "query" else spaces[::-1]
    fits = (
        default_fits(direction, source.dimension, target.dimension)
        if kind is None
        else {kind: ADAPTERS[kind].fit_for(direction)}
    )
    if kind is not None and not ADAPTERS[kind].serves(direction, source.dimension, target.dimension):
        raise InputError(
            f"The adapter {kind!r} does not map {source.dimension} to {target.dimension} dimensions for the {direction}: "
            f"choose {', '.join(default_fits(direction, source.dimension, target.dimension))}."
        )
    held_out = read_held_out(workspace, pairs, spaces, data_dir=data_dir, watcher=watcher, exclude=False)
    images = held_out.protocol.images
    watcher.said(f"fitting {kind or f'{len(fits)} kinds of adapters'} to {len(images)} pairs")
    selection = select_adapter(
        torch.from_numpy(held_out.spaces[source.name].embeddings),
        torch.from_numpy(held_out.spaces[target.name].embeddings),
        torch.from_numpy(images.labels) if held_out.labelled else None,
        direction=direction,
        fits=fits,
    )
    folder = workspace.directory / "adapters"
    folder.mkdir(exist_ok=True)
    with lock(folder / ".lock", "making an adapter"):
        number = max((stored.number for stored in workspace.adapters()), default=0) + 1
        stored = StoredAdapter.write(
            folder / adapter_directory_name(number),
            selection.adapter,
            name=f"a{number}",
            direction=direction,
            source=CardSpace(name=source.name, fingerprint=source.fingerprint),
            target=CardSpace(name=target.name, fingerprint=target.fingerprint),
            pairs=selection.pairs,
            data=images.fingerprint(),
            figures=selection.to_dict(),
        )
    chosen = selection.chosen
    workspace.journal.record(
        "adapt", adapter=stored.name, kind=selection.name, source=source.name, target=target.name, direction=direction,
        pairs=selection.pairs, measure=selection.measure, in_sample=round(chosen.in_sample.recall, 4),
        out_of_sample=round(chosen.worse.recall, 4),
    )  # fmt: skip
    return Adapted(stored, selection)

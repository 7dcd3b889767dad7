"""How well a generation's memory stands in for the generations before it."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.evaluation import protocol
from evergallery.memory import Fidelity, Weighting, fidelity
from evergallery.network import outputs_of
from evergallery.retrieval.knn import Exclusion
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.workspace import Workspace


def virtual_features(
    workspace: "Workspace",
    generation: str,
    data: str | Path | ImageSet,
    *,
    weighting: Weighting,
    data_dir: Path | None,
    watcher: Watcher,
) -> dict[str, Fidelity]:
    """See ``Workspace.virtual_features``."""
    later = workspace.generation(generation)
    memory = later.memory()
    earlier = [workspace.generation(name) for name in memory.means if name != later.name]
    if not earlier:
        raise InputError(
            f"{later.name} remembers no generation before it: it has no parent, or another dimension than its parent."
        )
    held_out = protocol(workspace.load(data, later.preprocessing, data_dir, watcher))
    images = held_out.images.select(held_out.query)
    labels, itworkspace = torch.from_numpy(images.labels), Exclusion(torch.arange(len(images)))
    outputs = outputs_of(later.network(), images, later.preprocessing)
    return {
        one.name: fidelity(
            outputs, torch.from_numpy(workspace.extract(one, images, watcher)), memory.means[one.name], labels,
            weighting, itworkspace,
        )
        for one in earlier
    }  # fmt: skip

"""The quality with which a generation's memory stands in for the generations before it."""

from pathlib import Path

import torch

from evergallery.data.image_set import ImageSet
from evergallery.devices.choosing import device_for
from evergallery.devices.computing import computed
from evergallery.errors import InputError
from evergallery.evaluation import protocol
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import ImageReader
from evergallery.memory import Fidelity, Weighting, fidelity
from evergallery.network import outputs_of
from evergallery.retrieval.knn import Exclusion
from evergallery.watching import SILENT, Watcher


def virtual_features(
    holdings: Holdings,
    generation: str,
    data: str | Path | ImageSet,
    *,
    weighting: Weighting = "clamped",
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> dict[str, Fidelity]:
    """Return how well a generation's memory stands in for each generation before it, which must still be here.

    Every held-out image is searched among the others (see ``evergallery.evaluation.protocol`` for which are held out).

    Args:
        generation: whose memory is asked.
        data: held-out labelled images.
        weighting: of the class means.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Returns:
        By the name of the earlier generation.

    Raises:
        InputError: it remembers no earlier generation, because it has no parent or another dimension than it.
    """
    later = holdings.generation(generation)
    memory = later.memory()
    earlier = [holdings.generation(name) for name in memory.means if name != later.name]
    if not earlier:
        raise InputError(
            f"{later.name} remembers no generation before it: it has no parent, or another dimension than its parent."
        )
    held_out = protocol(ImageReader(holdings, data_dir, watcher).read(data, later.preprocessing))
    images = held_out.images.select(held_out.query)
    labels, itself = torch.from_numpy(images.labels), Exclusion(torch.arange(len(images)))
    outputs = outputs_of(later.network().to(device_for(len(images))), images, later.preprocessing)
    found = {}
    for maker in earlier:
        network = maker.network().to(device_for(len(images)))
        real = outputs_of(network, images, maker.preprocessing).embeddings
        found[maker.name] = computed(
            len(images) * real.numel(), fidelity, outputs, real, memory.means[maker.name], labels, weighting, itself
        )
    return found

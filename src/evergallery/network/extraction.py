"""Embeddings of whole image sets, and all outputs of a network for methods that ask for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evergallery.data.augment import middle, normalise
from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet, as_batch
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import size_of
from evergallery.devices.gpu import Made, exact, in_memory
from evergallery.network.embedder import Extractor, Network, Outputs
from evergallery.network.ranks import Ranks
from evergallery.network.runtimes import Embed, Pixels, part_size

ALONE = Ranks()


def extract(
    embedder: Extractor,
    images: ImageSet | FeatureSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
    unit: bool = True,
) -> NDArray[np.float32]:
    """Unit embeddings (N, D) of N images, or of their features, in their order.

    Computed in float32 on the embedder's device, in evaluation mode: a stored vector must not depend on the machine's
    taste for reduced precision. The embedder is left in the mode it was in.

    Args:
        embedder: that looks at them.
        images: N.
        preprocessing: of its input.
        batch_size: images at once.
        on_progress: hears how many are done, and of how many.
        ranks: who share the batches, and all have all embeddings then; on CPUs of one kind, with as many threads each, bit for
            bit what one process would make.
        unit: whether they are brought to unit length, or left at the length that the embedder gives them.
    """
    embeddings = np.zeros((len(images), embedder.dimension), np.float32)
    with embedding(embedder, preprocessing, unit=unit) as embed:
        for start, stop in _batches(len(images), batch_size, ranks):
            embeddings[start:stop] = embed(images.batch(np.arange(start, stop)))
            if on_progress:
                on_progress(stop, len(images))
    return ranks.total(torch.from_numpy(embeddings)).numpy()


@contextmanager
def embedding(
    embedder: Extractor, preprocessing: Preprocessing, *, unit: bool = True
) -> Iterator[Callable[[Tensor], NDArray[np.float32]]]:
    """A function from decoded images (B, 3, S, S) uint8, or features, to embeddings (B, D), as ``extract`` makes them."""
    device = embedder.device
    make = embedder.embed if unit else embedder

    @torch.inference_mode()
    def embed(images: Tensor) -> NDArray[np.float32]:
        with exact(device):
            made = looked_at(make, images, preprocessing, device, whole=embedder.whole_batches)
            vectors: NDArray[np.float32] = torch.cat(made).float().cpu().numpy()
        return vectors

    with evaluating(embedder):
        yield embed


def in_torch(embedder: Extractor, preprocessing: Preprocessing) -> Embed:
    """Return what embeds pixels by a network in torch, or by somebody else's model wherever that runs."""

    def embed(pixels: Pixels) -> NDArray[np.float32]:
        with embedding(embedder, preprocessing) as run:
            return run(as_batch(pixels))

    return embed


@torch.no_grad()
def outputs_of(
    network: Network,
    images: ImageSet | FeatureSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> Outputs:
    """Features (N, D), unit embeddings (N, D) and logits (N, K) of N images without augmentation, on the CPU.

    Computed in float32 on the network's device, in evaluation mode; the network is left in the mode it was in. ``ranks``
    share the batches, and ``on_progress`` hears of them, as in ``extract``.
    """
    device = next(network.parameters()).device
    widths = (network.embedder.dimension, network.embedder.dimension, network.head.weight.shape[0])
    whole = Outputs(*(torch.zeros(len(images), width) for width in widths))
    with evaluating(network):
        for start, stop in _batches(len(images), batch_size, ranks):
            with exact(device):
                parts = looked_at(network, images.batch(np.arange(start, stop)), preprocessing, device)
                for rows, made in zip(whole, zip(*parts, strict=True), strict=True):
                    rows[start:stop] = torch.cat(made).float().cpu()
            if on_progress:
                on_progress(stop, len(images))
    return Outputs(*map(ranks.total, whole))


def in_parts(images: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """A batch (B, 3, S, S) as a network on this device takes it best: on a GPU as a whole."""
    if device.type != "cpu" or len(images) == 0:
        return (images,)
    return torch.split(images, part_size(size_of(images.shape[-2:])))


def looked_at(
    make: Callable[[Tensor], Made],
    batch: Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    whole: bool = False,
) -> list[Made]:
    """Return what is made of a batch on a device, part by part, in order.

    Args:
        make: takes normalised images (b, 3, S, S), or features (b, W) as they are.
        batch: images (B, 3, S, S) uint8, with their margins or without, or features (B, W), wherever they are.
        preprocessing: of the images.
        device: that makes it.
        whole: whether a processor takes the batch as a whole too.

    Raises:
        UnavailableError: a GPU fails, or has no memory for a single image.
    """

    def made(part: Tensor) -> Made:
        there = part.to(device)
        if part.ndim == 2:
            return make(there)
        return make(normalise(middle(there, preprocessing), preprocessing.mean, preprocessing.std))

    parts = (batch,) if whole or batch.ndim == 2 else in_parts(batch, device)
    return [result for part in parts for result in in_memory(made, part)]


def _batches(count: int, batch_size: int, ranks: Ranks) -> Iterator[tuple[int, int]]:
    """Yield where this rank's batches start and stop: those of one process, dealt out, since a sum may depend on its batch."""
    for start in range(ranks.rank * batch_size, count, ranks.size * batch_size):
        yield start, min(start + batch_size, count)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in evaluation mode, and leave it in the mode it was in."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)

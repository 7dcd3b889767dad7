"""Embeddings of whole image sets, and all outputs of a network for methods that ask for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.network.embedder import Extractor, Network, Outputs


def extract(
    embedder: Extractor,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Unit embeddings (N, D) of N images, in their order.

    Computed in float32 on the embedder's device, in evaluation mode: a stored vector must not depend on the machine's
    taste for reduced precision. The embedder is left in the mode it was in.
    """
    embeddings = np.empty((len(images), embedder.dimension), np.float32)
    with embedding(embedder, preprocessing) as embed:
        for start in range(0, len(images), batch_size):
            stop = min(start + batch_size, len(images))
            embeddings[start:stop] = embed(images.batch(np.arange(start, stop)))
            if on_progress:
                on_progress(stop, len(images))
    return embeddings


@contextmanager
def embedding(embedder: Extractor, preprocessing: Preprocessing) -> Iterator[Callable[[Tensor], NDArray[np.float32]]]:
    """A function from decoded images (B, 3, S, S) uint8 to unit embeddings (B, D), as ``extract`` makes them."""
    device = embedder.device

    @torch.inference_mode()
    def embed(images: Tensor) -> NDArray[np.float32]:
        batch = normalise(images.to(device), preprocessing.mean, preprocessing.std)
        vectors: NDArray[np.float32] = embedder.embed(batch).cpu().numpy()
        return vectors

    with _evaluating(embedder):
        yield embed


@torch.no_grad()
def outputs_of(network: Network, images: ImageSet, preprocessing: Preprocessing, *, batch_size: int = 256) -> Outputs:
    """Features (N, D), unit embeddings (N, D) and logits (N, K) of N images without augmentation, on the CPU.

    Computed in float32 on the network's device, in evaluation mode; the network is left in the mode it was in.
    """
    device = next(network.parameters()).device
    batches = []
    with _evaluating(network):
        for start in range(0, len(images), batch_size):
            batch = images.batch(np.arange(start, min(start + batch_size, len(images)))).to(device)
            outputs = network(normalise(batch, preprocessing.mean, preprocessing.std))
            batches.append([one.float().cpu() for one in outputs])
    return Outputs(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)

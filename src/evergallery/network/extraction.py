"""Embeddings of whole image sets."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.network.embedder import Embedder


@torch.inference_mode()
def extract(
    embedder: Embedder,
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
    device = next(embedder.parameters()).device
    was_training = embedder.training
    embedder.eval()
    try:
        for start in range(0, len(images), batch_size):
            stop = min(start + batch_size, len(images))
            batch = images.batch(np.arange(start, stop)).to(device)
            embeddings[start:stop] = embedder.embed(normalise(batch, preprocessing.mean, preprocessing.std)).cpu()
            if on_progress:
                on_progress(stop, len(images))
    finally:
        embedder.train(was_training)
    return embeddings

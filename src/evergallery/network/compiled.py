"""A network compiled by torch for batches of one size, whose last one is filled up."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evergallery.data.augment import normalise
from evergallery.data.image_set import as_batch
from evergallery.data.images import Preprocessing
from evergallery.devices.gpu import exact, gpu_trouble
from evergallery.network.embedder import Extractor
from evergallery.network.extraction import evaluating, in_torch
from evergallery.network.runtimes import Pixels, Vectors

Backend = Literal["inductor", "aot_eager", "eager"]


class CompiledNetwork:
    """Embeds pixels (B, H, W, 3) uint8 on the network's device; the first call compiles, which takes a minute perhaps.

    Where the device has no memory for a batch, that batch goes to the network as it is, in halves.

    Args:
        embedder: the network, on its device.
        preprocessing: of its input.
        size: images of a batch.
        backend: of ``torch.compile``; those beside ``inductor`` write no program.
    """

    def __init__(
        self, embedder: Extractor, preprocessing: Preprocessing, size: int, backend: Backend = "inductor"
    ) -> None:
        self.embedder, self.size = embedder, size
        self._as_it_is = in_torch(embedder, preprocessing)
        mean, deviation = preprocessing.mean, preprocessing.std

        def embed(images: Tensor) -> Tensor:
            return embedder.embed(normalise(images, mean, deviation)).float()

        # One program for one shape: what does not compile as a whole is refused, and not compiled in pieces.
        self._program: Any = torch.compile(embed, fullgraph=True, dynamic=False, backend=backend)

    def __call__(self, pixels: Pixels) -> Vectors:
        """Unit vectors (B, D).

        Raises:
            UnavailableError: a GPU fails, or has no memory for a single image.
        """
        starts = range(0, len(pixels), self.size)
        return np.concatenate([self._batch(pixels[start : start + self.size]) for start in starts])

    @torch.no_grad()
    def _batch(self, pixels: Pixels) -> Vectors:
        missing = np.zeros((self.size - len(pixels), *pixels.shape[1:]), np.uint8)
        device = self.embedder.device
        try:
            with evaluating(self.embedder), exact(device):
                made = self._program(as_batch(np.concatenate([pixels, missing])).to(device))[: len(pixels)]
                vectors: Vectors = made.cpu().numpy()
                return vectors
        except torch.OutOfMemoryError:
            pass
        torch.cuda.empty_cache()
        with gpu_trouble("a single image"):
            return self._as_it_is(pixels)

"""Batches of pixels, on the device that learns from them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.data.image_set import ImageSet

RESIDENT_SHARE = 0.25
"""Of a GPU's free memory, for the images that are learned from."""

Reader = Callable[[NDArray[np.int64]], Tensor]
"""Images by their numbers (B,): a uint8 tensor (B, 3, S, S) in channels_last memory format, on the device."""


def reader(images: ImageSet, device: torch.device) -> Reader:
    """How batches of these images come to this device.

    A GPU keeps the whole set where it fits into a quarter of its free memory, so that nothing but numbers goes to it in a step.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if len(images) * 3 * images.size**2 <= RESIDENT_SHARE * free:
            return resident(images, device)
    return lambda indices: images.batch(indices).to(device)


def resident(images: ImageSet, device: torch.device) -> Reader:
    """The whole set on the device."""
    # Rows of whole images, so that choosing some keeps the memory format.
    pixels = images.batch(np.arange(len(images))).to(device).permute(0, 2, 3, 1)

    def read(indices: NDArray[np.int64]) -> Tensor:
        return pixels.index_select(0, torch.from_numpy(indices).to(device)).permute(0, 3, 1, 2)

    return read

"""Batches of pixels or of features, augmented, on the device that learns from them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.data.augment import colour_jitter, erase, flip, normalise, pad_crop, resize, resized_crop
from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.training.settings import Settings

RESIDENT_SHARE = 0.25
"""Of a GPU's free memory, for the images that are learned from."""

Reader = Callable[[NDArray[np.int64]], Tensor]
"""Images by their numbers (B,): a uint8 tensor (B, 3, S, S) in channels_last memory format, on the device."""
Inputs = Callable[[NDArray[np.int64], torch.Generator, int, slice], Tensor]
"""What a network takes of a batch: of images by their numbers (B,), augmented by draws from a generator at a size in pixels,
the share of the batch that a rank looks at."""


def inputs(
    images: ImageSet | FeatureSet, preprocessing: Preprocessing, settings: Settings, device: torch.device
) -> Inputs:
    """How batches come to the network: of images augmented pixels, of features one of the views of each image."""
    if isinstance(images, FeatureSet):
        features = images

        def views(indices: NDArray[np.int64], generator: torch.Generator, size: int, share: slice) -> Tensor:
            chosen = torch.randint(features.view_count, (len(indices),), generator=generator).numpy()
            return features.chosen(indices[share], chosen[share]).to(device)

        return views
    read = reader(images, device)

    def pixels(indices: NDArray[np.int64], generator: torch.Generator, size: int, share: slice) -> Tensor:
        # Every rank augments the whole batch, so that its own part is as one process would have it.
        augmented = augment(read(indices), settings, generator, size)[share]
        return normalise(augmented, preprocessing.mean, preprocessing.std)

    return pixels


def augment(images: Tensor, settings: Settings, generator: torch.Generator, size: int) -> Tensor:
    """Random crop, colours, flip and erasing of a uint8 batch (B, 3, H, W), at ``size`` pixels."""
    images = resize(images, size)
    if settings.crop is not None:
        images = resized_crop(images, torch.rand(len(images), 4, generator=generator), (settings.crop, 1.0))
    elif settings.padding:
        images = pad_crop(images, settings.padding, generator, settings.border)
    if settings.colour:
        images = colour_jitter(images, torch.rand(len(images), 3, generator=generator), settings.colour)
    if settings.flip:
        images = flip(images, generator)
    if settings.erase:
        images = erase(images, generator, probability=settings.erase)
    return images


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

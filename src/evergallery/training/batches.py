"""Batches of pixels or of features, augmented, on the device that learns from them."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.data.augment import normalise
from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size, sides
from evergallery.data.sampling import balanced_batches, class_batches, mixed_batches, shuffled_batches
from evergallery.training.augmentation import augment
from evergallery.training.settings import Settings

RESIDENT_SHARE = 0.25
"""Share of a GPU's free memory that the images may fill which are learned from."""

Reader = Callable[[NDArray[np.int64]], Tensor]
"""Images by their numbers (B,): a uint8 tensor (B, 3, S, S) in channels_last memory format, on the device."""
Inputs = Callable[[NDArray[np.int64], torch.Generator, Size, slice], Tensor]
"""The inputs of a network: of images by their numbers (B,), augmented by draws from a generator at a size in pixels,
the share of the batch that a rank looks at."""


def batches_of(
    images: ImageSet | FeatureSet,
    settings: Settings,
    epoch: int,
    *,
    old_classes: int = 0,
    old_share: float | None = None,
) -> list[NDArray[np.int64]]:
    """The batches of an epoch, as indices of images.

    Args:
        images: labels below ``old_classes`` are those of old images.
        settings: how many images a batch has, and of how many classes.
        epoch: 0, 1, …
        old_classes: how many there are.
        old_share: of old images in a plainly shuffled batch; ``None`` for as many as there are.
    """
    per_class, seed = settings.images_per_class, settings.data_seed
    if per_class is None:
        drop_last = not settings.last_batch
        is_old = np.asarray(images.labels) < old_classes
        if old_share is not None and is_old.any() and not is_old.all():
            return mixed_batches(is_old, settings.batch_size, old_share, seed=seed, epoch=epoch, drop_last=drop_last)
        return shuffled_batches(len(images), settings.batch_size, seed=seed, epoch=epoch, drop_last=drop_last)
    draw = class_batches if settings.epoch == "classes" else balanced_batches
    return draw(images.labels, max(1, settings.batch_size // per_class), per_class, seed=seed, epoch=epoch)


def parts_of(indices: NDArray[np.int64], settings: Settings) -> list[NDArray[np.int64]]:
    """A batch (B,) in ``accumulate`` parts of about one size, each with whole classes of a balanced batch."""
    together = settings.images_per_class or 1
    starts = np.array_split(np.arange(0, len(indices), together), settings.accumulate)
    return [indices[part[0] : part[-1] + together] for part in starts if len(part)]


def inputs(
    images: ImageSet | FeatureSet, preprocessing: Preprocessing, settings: Settings, device: torch.device
) -> Inputs:
    """Return how batches come to the network: of images augmented pixels, of features one of the views of each image."""
    if isinstance(images, FeatureSet):
        features = images

        def views(indices: NDArray[np.int64], generator: torch.Generator, size: Size, share: slice) -> Tensor:
            chosen = torch.randint(features.view_count, (len(indices),), generator=generator).numpy()
            return features.chosen(indices[share], chosen[share]).to(device)

        return views
    read = reader(images, device)

    def pixels(indices: NDArray[np.int64], generator: torch.Generator, size: Size, share: slice) -> Tensor:
        # Every rank augments the whole batch, so that its own part is as one process would have it.
        augmented = augment(read(indices), settings, generator, size, preprocessing)[share]
        return normalise(augmented, preprocessing.mean, preprocessing.std)

    return pixels


def reader(images: ImageSet, device: torch.device) -> Reader:
    """Return how batches of these images come to this device.

    A GPU keeps the whole set where it fits into a quarter of its free memory, so that nothing but numbers goes to it in a step.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if len(images) * 3 * math.prod(sides(images.size)) <= RESIDENT_SHARE * free:
            return resident(images, device)
    return lambda indices: images.batch(indices).to(device)


def resident(images: ImageSet, device: torch.device) -> Reader:
    """A reader of the whole set, which lies on the device."""
    # Rows of whole images, so that choosing some keeps the memory format.
    pixels = images.batch(np.arange(len(images))).to(device).permute(0, 2, 3, 1)

    def read(indices: NDArray[np.int64]) -> Tensor:
        return pixels.index_select(0, torch.from_numpy(indices).to(device)).permute(0, 3, 1, 2)

    return read

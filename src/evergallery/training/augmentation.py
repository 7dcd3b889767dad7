"""Augmentation: the changes of a batch's images before they are learned from."""

import torch
from torch import Tensor

from evergallery.data.augment import colour_jitter, erase, flip, middle, pad_crop, resize, resized_crop
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.training.settings import Settings


def augment(
    images: Tensor, settings: Settings, generator: torch.Generator, size: Size, preprocessing: Preprocessing
) -> Tensor:
    """Random crop, colours, flip and erasing of a uint8 batch (B, 3, H, W), at a size.

    Of images with margins a random crop is cut before they are scaled; without one, their middle is taken.
    """
    if settings.crop is not None:
        whole = resize(images, size) if preprocessing.kept == 1 else images
        images = resized_crop(whole, torch.rand(len(images), 4, generator=generator), (settings.crop, 1.0), size=size)
    else:
        images = resize(middle(images, preprocessing), size)
        if settings.padding:
            images = pad_crop(images, settings.padding, generator, settings.border)
    if settings.colour:
        images = colour_jitter(images, torch.rand(len(images), 3, generator=generator), settings.colour)
    if settings.flip:
        images = flip(images, generator)
    if settings.erase:
        images = erase(images, generator, probability=settings.erase, colour=settings.erase_colour)
    return images

"""Augmentation of whole batches of uint8 images, on CPU or CUDA, in channels_last memory format throughout.

Random draws come from an explicit CPU generator, so that they are the same on every device.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size, sides

Padding = Literal["reflect", "zero"]
SCALE, ASPECT = (0.4, 1.0), (3 / 4, 4 / 3)
"""Smallest and largest share of the area of a crop, and its width over its height beside that of the whole image."""
STRENGTH = 0.2
"""The change of a colour, at most."""


def pad_crop(images: Tensor, padding: int, generator: torch.Generator, mode: Padding = "reflect") -> Tensor:
    """Shift each image by up to ``padding`` pixels in both directions.

    Args:
        images: (B, C, H, W) uint8.
        padding: pixels, 0 ≤ padding < min(H, W).
        generator: on the CPU.
        mode: what lies beyond the border.

    Returns:
        (B, C, H, W) uint8.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    shifted = _take(images, _reflect(rows, height), _reflect(columns, width))
    if mode == "zero":
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        shifted = shifted * inside[:, None]
    return shifted


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image with probability ½.

    Args:
        images: (B, C, H, W) uint8.
        generator: on the CPU.

    Returns:
        (B, C, H, W) uint8.
    """
    return mirror(images, torch.rand(len(images), generator=generator))


def erase(
    images: Tensor,
    generator: torch.Generator,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 0.33),
    aspect: tuple[float, float] = (0.3, 3.3),
    colour: Sequence[int] = (),
) -> Tensor:
    """Random erasing (Zhong et al. 2020): fill a rectangle of some images with one colour each.

    Args:
        images: (B, C, H, W) uint8.
        generator: on the CPU.
        probability: of an image to be erased.
        area: smallest and largest share of the image.
        aspect: smallest and largest height over width, drawn log-uniformly.
        colour: of all rectangles, C values in 0 … 255; a random one for each image where it is empty.

    Returns:
        (B, C, H, W) uint8; a new tensor.
    """
    count, channels, height, width = images.shape
    share, ratio, top, left, chosen = torch.rand(5, count, generator=generator)
    share = area[0] + share * (area[1] - area[0])
    ratio = torch.exp(math.log(aspect[0]) + ratio * math.log(aspect[1] / aspect[0]))
    tall = (share * height * width * ratio).sqrt().round().clamp(1, height)
    wide = (share * height * width / ratio).sqrt().round().clamp(1, width)
    y0, x0 = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
    if colour:
        colours = torch.tensor(colour, dtype=torch.uint8).view(1, channels, 1, 1).expand(count, -1, -1, -1)
    else:
        colours = torch.randint(0, 256, (count, channels, 1, 1), generator=generator, dtype=torch.uint8)
    erased = images.clone(memory_format=torch.preserve_format)
    # Few images of a batch are erased, so a loop over these few slices beats masks over the whole batch.
    for index in torch.nonzero(chosen < probability).flatten().tolist():
        y, x = int(y0[index]), int(x0[index])
        region = erased[index, :, y : y + int(tall[index]), x : x + int(wide[index])]
        region.copy_(colours[index].to(images.device).expand_as(region))
    return erased


def resized_crop(
    images: Tensor,
    draws: Tensor,
    scale: tuple[float, float] = SCALE,
    aspect: tuple[float, float] = ASPECT,
    size: Size | None = None,
) -> Tensor:
    """Cut a rectangle out of each image and scale it to one size (Szegedy et al. 2015).

    Args:
        images: (B, C, H, W) uint8.
        draws: (B, 4) uniform in [0, 1): area, aspect ratio, and place of the rectangle.
        scale: smallest and largest share of the area.
        aspect: smallest and largest width over height beside that of the whole image, drawn log-uniformly.
        size: of the result; that of the images by default.

    Returns:
        (B, C, H', W') uint8.
    """
    return _as_bytes(_cropped(images, draws, scale, aspect, size))


def _cropped(
    images: Tensor, draws: Tensor, scale: tuple[float, float], aspect: tuple[float, float], size: Size | None
) -> Tensor:
    """Return the same as floats (B, C, H', W') that are whole numbers, each channel by itself."""
    draws = draws.to(images.device, torch.float32)
    area = scale[0] + draws[:, 0] * (scale[1] - scale[0])
    ratio = torch.exp(math.log(aspect[0]) + draws[:, 1] * math.log(aspect[1] / aspect[0]))
    wide, tall = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # Coordinates go from -1 to 1, so that sides are halves of them.
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = wide, tall
    theta[:, 0, 2], theta[:, 1, 2] = (2 * draws[:, 2] - 1) * (1 - wide), (2 * draws[:, 3] - 1) * (1 - tall)
    shape = images.shape[-2:] if size is None else sides(size)
    grid = F.affine_grid(theta, [*images.shape[:2], *shape], align_corners=False)
    cut = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return cut.round_().clamp_(0, 255).contiguous()


def colour_jitter(images: Tensor, draws: Tensor, strength: float = STRENGTH) -> Tensor:
    """Change brightness, contrast and saturation of each image by factors in ``1 ± strength``.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B, 3) uniform in [0, 1).
        strength: in [0, 1).

    Returns:
        (B, 3, H, W) uint8.
    """
    return _as_bytes(_jittered(images.to(torch.float32, memory_format=torch.contiguous_format), draws, strength))


def _jittered(pixels: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Return the same of floats (B, 3, H, W), which are changed in place: memory that is used again stays warm."""
    factors = (1 + strength * (2 * draws.to(pixels.device, torch.float32) - 1))[:, :, None, None, None]
    brightness, contrast, saturation = factors.unbind(1)
    pixels.mul_(brightness)
    # Means are twice as fast where a channel lies together.
    torch.lerp(pixels.mean((1, 2, 3), keepdim=True), pixels, contrast, out=pixels)
    torch.lerp(pixels.mean(1, keepdim=True), pixels, saturation, out=pixels)
    return pixels.round_().clamp_(0, 255)


def jittered_crop(images: Tensor, draws: Tensor, size: Size | None = None) -> Tensor:
    """``colour_jitter`` of a ``resized_crop``, both as they are by default, in less time than one after the other.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B, 7) uniform in [0, 1): those of the crop, then those of the colours.
        size: of the result; that of the images by default.

    Returns:
        (B, 3, H', W') uint8.
    """
    return _as_bytes(_jittered(_cropped(images, draws[:, :4], SCALE, ASPECT, size), draws[:, 4:], STRENGTH))


def _as_bytes(pixels: Tensor) -> Tensor:
    return pixels.to(torch.uint8, memory_format=torch.channels_last)


def mirror(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror the images (B, C, H, W) whose draw (B,) uniform in [0, 1) is below ½."""
    mirrored = (draws < 0.5).to(images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    rows = torch.arange(images.shape[2], device=images.device).expand(len(images), -1)
    return _take(images, rows, torch.where(mirrored[:, None], images.shape[3] - 1 - columns, columns))


def resize(images: Tensor, size: Size) -> Tensor:
    """Scale images by antialiased bilinear interpolation.

    Args:
        images: (B, C, H, W) uint8.
        size: of the result.

    Returns:
        (B, C, H', W') uint8; the images themselves where they have that size.
    """
    shape = sides(size)
    if images.shape[-2:] == shape:
        return images
    if images.device.type == "cpu":
        return F.interpolate(images, size=shape, mode="bilinear", antialias=True)
    scaled = F.interpolate(images.float(), size=shape, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def middle(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what a network sees of images (B, C, H, W) that were read with their margins; others are left as they are.

    Args:
        images: as ``Preprocessing.with_margins`` makes them, or at the size of the network's input.
        preprocessing: of the network's input.
    """
    if preprocessing.kept == 1 or images.shape[-2:] == preprocessing.shape:
        return images
    tall, wide = preprocessing.shape
    top, left = (images.shape[-2] - tall) // 2, (images.shape[-1] - wide) // 2
    return images[..., top : top + tall, left : left + wide].contiguous(memory_format=torch.channels_last)


def normalise(
    images: Tensor,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 images (B, 3, H, W) to ``(pixel / 255 - mean) / std``, memory format kept."""
    scale = torch.tensor(std, dtype=dtype).mul(255).reciprocal().to(images.device).view(1, 3, 1, 1)
    shift = (torch.tensor(mean, dtype=dtype) / torch.tensor(std, dtype=dtype)).to(images.device).view(1, 3, 1, 1)
    return images.to(dtype).mul_(scale).sub_(shift)


def _reflect(positions: Tensor, length: int) -> Tensor:
    positions = positions.abs()
    return torch.where(positions >= length, 2 * (length - 1) - positions, positions)


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (rows[b, i], columns[b, j]) of each image b.

    Whole rows are copied first; then one gather within each row of interleaved channels, with an index that is expanded,
    not stored. Several times as fast as indexing by broadcast grids.
    """
    count, channels, height, width = images.shape
    base = torch.arange(count, device=images.device)[:, None] * height
    by_row = images.permute(0, 2, 3, 1).reshape(count * height, width * channels)
    by_row = by_row.index_select(0, (base + rows).flatten()).view(count, -1, width * channels)
    within = columns[:, :, None] * channels + torch.arange(channels, device=images.device)
    within = within.view(count, 1, -1).expand(-1, by_row.shape[1], -1)
    return by_row.gather(2, within).view(count, by_row.shape[1], -1, channels).permute(0, 3, 1, 2)

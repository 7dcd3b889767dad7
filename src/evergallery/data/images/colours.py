"""The colours of an image as 8-bit sRGB: profiles, transparency, more than 8 bits."""

import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evergallery.data.images.preprocessing import DECODING, WHITE
from evergallery.errors import InputError

if TYPE_CHECKING:
    from PIL import ImageCms

AT_ONCE = 1 << 22
"""Values that are converted together."""


def from_array(array: NDArray[np.uint8]) -> Image.Image:
    """The RGB image of an array (H, W), (H, W, 1), (H, W, 3) or, composited on white, (H, W, 4)."""
    return rgb(Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def rgb(image: Image.Image, decoding: int = DECODING) -> Image.Image:
    """An image of any mode as 8-bit sRGB; transparent pixels lie on white."""
    profile = image.info.get("icc_profile") if decoding > 1 else None
    if image.mode == "RGB" and "transparency" not in image.info:
        return _in_srgb(image, profile)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        clear = image.info.get("transparency") if decoding > 1 else None
        is_clear = values == clear if isinstance(clear, int) else None
        grey = eight_bits(values, decoding, is_clear)
        return _in_srgb(Image.fromarray(grey), profile).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        with_alpha = _in_srgb(image.convert("RGBA"), profile)
        return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), with_alpha).convert("RGB")
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGB")
    return _in_srgb(image, profile).convert("RGB")


_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An 8-bit image with the colours that its profile means; as it is where it has none, or one that cannot be used."""
    if not profile or _SPACES.get(image.mode) != profile[16:20]:
        return image
    transform = _to_srgb(profile, image.mode)
    if transform is None:
        return image
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | None":
    """Return what brings colours to sRGB; ``None`` where they are there already, up to rounding, or the profile is damaged."""
    # Most pictures have no profile, and most commands no picture.
    from PIL import ImageCms

    out = "RGBA" if mode == "RGBA" else "RGB"
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, out)
        if mode not in ("RGB", "RGBA", "L"):
            return made
        # Nearly every photo says sRGB, which costs nothing then; what it says is tried, whatever the profile is called.
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        colours = np.stack(np.meshgrid(*[steps] * 3), axis=-1).reshape(1, -1, 3)
        probe = Image.fromarray(colours if mode != "L" else np.arange(256, dtype=np.uint8)[None]).convert(mode)
        meant = ImageCms.applyTransform(probe, made)
        assert meant is not None, "a picture that is not changed in place is returned"
        shift = np.asarray(meant, dtype=np.int16) - np.asarray(probe.convert(out), dtype=np.int16)
        return None if np.abs(shift).max() <= 2 else made
    # Damaged profiles are as frequent as damaged EXIF data, and no reason to lose a picture.
    except Exception:
        return None


def eight_bits(
    values: NDArray[Any], decoding: int = DECODING, clear: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Values (H, W[, C]) of more than 8 bits as 8 bits; those that are clear are white."""
    seen = values if clear is None or clear.all() else values[~clear]
    if values.dtype.kind == "f" and not np.isfinite(seen).all():
        raise InputError("it holds values that are not finite numbers.")
    low, high = float(seen.min()), float(seen.max())
    if np.issubdtype(values.dtype, np.integer):
        # Pillow gives 16-bit files as 16-bit or as 32-bit integers, according to their format.
        depths = (8, 10, 12, 14, 16) if decoding > 1 else (16,)
        fitting = [float((1 << depth) - 1) for depth in depths if high < 1 << depth]
        start, end = (0.0, fitting[0]) if low >= 0 and fitting else (low, high)
    elif low >= 0 and high <= 255:
        start, end = (0.0, 1.0) if high <= 1 else (0.0, 255.0)
    else:
        start, end = low, high
    bytes_ = np.full(values.shape, 128, np.uint8)
    if end != start:
        # A part at a time: as float64 the whole would take eight times as much as the picture.
        rows = max(1, AT_ONCE // max(1, values[0].size))
        for first in range(0, len(values), rows):
            part = values[first : first + rows].astype(np.float64)
            np.clip((part - start) * (255.0 / (end - start)), 0, 255, out=part)
            bytes_[first : first + rows] = np.rint(part)
    if clear is not None:
        bytes_[clear] = 255
    return bytes_

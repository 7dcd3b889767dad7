"""Preprocessing of an image to the pixels that a network sees, square or not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images.sizes import Size, checked_size, sides, size_of, size_text
from evergallery.errors import InputError, require_known

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

DECODING, REDUCED = 2, 3
"""The current way from files to pixels, and the same with JPEGs of reduced size; see ``Preprocessing``."""
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Preprocessing:
    """The way from a file to the input of a network; part of the fingerprint of an embedding space.

    A published "shorter side to 256 pixels, then the middle 224" is ``size=224, kept=224 / 256``.

    Attributes:
        size: side of the square output in pixels, or height and width.
        fit: ``crop`` keeps the largest part in the middle that has the aspect ratio of the output, ``pad`` keeps all of the
            image and fills the rest with white, ``stretch`` ignores the aspect ratio.
        kept: share of the sides of what ``crop`` keeps that a network sees, in the middle of it; 1 for all of it. Learning has
            use of the margins too, see ``with_margins``.
        interpolation: antialiased resampling filter.
        mean: subtracted from each channel, in [0, 1].
        std: each channel is divided by it.
        decoding: 2, or 1 as generations of earlier versions have it: colours as they are stored whatever their profile, and
            integers of more than 8 bits as if they filled 16. 3 is as 2, and a JPEG is decoded at an eighth, a quarter or half
            of its size, the smallest of them that is still not smaller than what the network sees: several times as fast for
            photographs of many megapixels, and other pixels.

    Raises:
        InputError: a value is out of range.
    """

    size: Size = 32
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    decoding: int = DECODING
    kept: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked_size(self.size))
        for name, value, known in (
            ("fit", self.fit, get_args(Fit)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("decoding", self.decoding, tuple(range(1, REDUCED + 1))),
        ):
            require_known(name, value, known)
        is_share = isinstance(self.kept, int | float) and 0 < self.kept <= 1
        if not is_share or (self.kept < 1 and self.fit != "crop"):
            raise InputError(
                f"The share kept is {self.kept!r}: it must be above 0 and at most 1, and 1 with a fit other than crop."
            )
        for name in ("mean", "std"):
            try:
                numbers = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                numbers = ()
            if len(numbers) != 3 or not np.isfinite(numbers).all() or (name == "std" and min(numbers) <= 0):
                kind = "positive numbers" if name == "std" else "numbers"
                raise InputError(f"The {name} is {getattr(self, name)!r}: it must be three {kind}, one per channel.")
            object.__setattr__(self, name, numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return sides(self.size)

    @property
    def with_margins(self) -> Self:
        """Return the way to all that ``crop`` keeps, at its size before its middle is taken; itself where nothing is left out."""
        if self.kept == 1:
            return self
        return replace(self, size=size_of([round(side / self.kept) for side in self.shape]), kept=1.0)

    def reduction(self, width: int, height: int) -> int:
        """The divisor, of 1, 2, 4 and 8, of the sides of an upright JPEG when it is decoded."""
        if self.decoding != REDUCED:
            return 1
        tall, wide = self.shape
        ratios = self.kept * width / wide, self.kept * height / tall
        ratio = max(ratios) if self.fit == "pad" else min(ratios)
        return next((scale for scale in (8, 4, 2) if scale <= ratio), 1)

    @property
    def recipe(self) -> str:
        """Return what decides the decoded pixels, as a directory name: everything but ``mean`` and ``std``."""
        return (
            f"{size_text(self.size)}-{self.fit}-{self.interpolation}"
            + ("" if self.decoding == 1 else f"-{self.decoding}")
            + ("" if self.kept == 1 else f"-{self.kept:g}")
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; one that earlier versions did not know is left out where it is as it was then."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        for name, before in (("decoding", 1), ("kept", 1)):
            if values[name] == before:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read it from what ``to_dict`` gave.

        Raises:
            InputError: an unknown name or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"Preprocessing has no setting {unknown[0]!r}: it has {', '.join(_names(cls))}.")
        return cls(**{"decoding": 1, **values})


def pixels(
    image: "Image.Image", preprocessing: Preprocessing, shown: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """An RGB image at the size of the network's input: (H, W, 3).

    Args:
        image: of any size.
        preprocessing: of the network's input.
        shown: width and height of what it shows of a picture, where its last column or row is not whole; all of it by default.
    """
    # Every card has a preprocessing, and who reads cards has no image.
    from PIL import Image

    (tall, wide), resampling = preprocessing.shape, Image.Resampling[preprocessing.interpolation.upper()]
    width, height = shown or image.size
    if preprocessing.fit == "crop":
        across, down = (
            preprocessing.kept * side for side in (min(width, height * wide / tall), min(height, width * tall / wide))
        )
        left, top = (width - across) / 2, (height - down) / 2
        if shown is None and preprocessing.kept == 1:
            left, top = left // 1, top // 1
        image = image.resize((wide, tall), resampling, box=(left, top, left + across, top + down))
    elif preprocessing.fit == "stretch":
        image = image.resize((wide, tall), resampling, box=(0, 0, width, height))
    else:
        scale = min(wide / width, tall / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        fitted = image.resize(size, resampling, box=(0, 0, width, height))
        image = Image.new("RGB", (wide, tall), WHITE)
        image.paste(fitted, ((wide - fitted.width) // 2, (tall - fitted.height) // 2))
    return np.asarray(image, dtype=np.uint8)


def _names(cls: type[Preprocessing]) -> list[str]:
    return [field.name for field in fields(cls)]

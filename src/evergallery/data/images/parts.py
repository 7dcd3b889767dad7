"""The part of an image that is looked at, where it is not all of it: a box, or a face that five points bring upright."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

FACE = 112
FACE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""The eyes, the nose and the corners of the mouth in an aligned face of 112 pixels (ArcFace, Deng et al. 2019)."""


@dataclass(frozen=True)
class Box:
    """A part of an image, in pixels from its upper left corner; what lies outside of the image is left out."""

    left: float
    top: float
    right: float
    bottom: float

    def of(self, image: Image.Image) -> Image.Image:
        """The part of the image in the box, at least one pixel wide and high."""
        left, top = (
            min(max(0, round(start)), side - 1) for start, side in zip((self.left, self.top), image.size, strict=True)
        )
        right, bottom = (
            min(max(first + 1, round(end)), side)
            for first, end, side in zip((left, top), (self.right, self.bottom), image.size, strict=True)
        )
        return image.crop((left, top, right, bottom))


@dataclass(frozen=True)
class Face:
    """A face by five points ``(x, y)`` in pixels: eyes, nose and corners of the mouth, the image's left one first."""

    points: tuple[tuple[float, float], ...]

    def of(self, image: Image.Image) -> Image.Image:
        """The face, 112 by 112 pixels, turned, scaled and shifted so that its points come near ``FACE_POINTS``."""
        # a and b of the least squares solution of  x' = a x - b y + c,  y' = b x + a y + d,  from the face to the image.
        rows = [row for x, y in FACE_POINTS for row in ((x, -y, 1, 0), (y, x, 0, 1))]
        wanted = [value for point in self.points for value in point]
        a, b, c, d = np.linalg.lstsq(np.array(rows, dtype=float), np.array(wanted, dtype=float), rcond=None)[0]
        # Shrinking by sampling alone would alias: first the image becomes about as large as its face is wanted.
        scale = float(np.hypot(a, b))
        if scale > 1:
            width, height = image.size
            small = (max(1, round(width / scale)), max(1, round(height / scale)))
            image = image.resize(small, Image.Resampling.BILINEAR)
            across, down = small[0] / width, small[1] / height
            matrix = (a * across, -b * across, c * across, b * down, a * down, d * down)
        else:
            matrix = (a, -b, c, b, a, d)
        return image.transform((FACE, FACE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class MirroredFace:
    """A face, mirrored."""

    face: Face

    def of(self, image: Image.Image) -> Image.Image:
        """The face from right to left, 112 by 112 pixels."""
        return ImageOps.mirror(self.face.of(image))


Part = Box | Face | MirroredFace

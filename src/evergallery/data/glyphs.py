"""The set ``glyphs``: characters drawn in the fonts that matplotlib ships. Nothing to download, and with the same versions of
Python and its libraries the same bytes every time.

A class is a character. Its images differ in font, weight, slant, stroke, scale, rotation, shift, colours, contrast,
background, clutter and noise.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError, extra

CHARACTERS = "The set 'glyphs', drawn in fonts of matplotlib,"
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
)  # fmt: skip
FEWEST_FONTS = 6
CATEGORIES = frozenset(("Lu", "Ll", "Lo", "Nd", "No", "Sm", "So", "Sc"))
BLOCKS = (
    (0x21, 0x17F),
    (0x386, 0x3FF),
    (0x400, 0x4FF),
    (0x531, 0x587),
    (0x10A0, 0x10FF),
    (0x2190, 0x22FF),
    (0x25A0, 0x27BF),
)
"""Latin, Greek, Cyrillic, Armenian, Georgian, arrows and mathematics, shapes."""

CANVAS = 72
"""Side of a drawn character before it is scaled down, in pixels."""
EXTENT = 46
"""Height or width of the character on the canvas, whichever is larger."""
ALIKE = 0.93
"""Two characters whose centred drawings have at least this cosine count as one."""


@dataclass(frozen=True)
class Pose:
    """The pose of a drawing in a picture, each value drawn between bounds.

    Attributes:
        scale: smallest and largest.
        shift: at most, as a share of the side, either way.
        angle: at most, in degrees, either way.
        shear: at most, either way.
    """

    scale: tuple[float, float]
    shift: float
    angle: float
    shear: float


READABLE = Pose(scale=(0.75, 1.15), shift=0.1, angle=12, shear=0.25)
"""The poses of the character that a picture shows."""
ANYHOW = Pose(scale=(0.6, 1.2), shift=0.08, angle=180, shear=0.3)
"""The poses of the clutter beside it."""


def generate(
    *,
    classes: int = 200,
    train_per_class: int = 30,
    test_per_class: int = 12,
    size: int = 32,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Draw the set.

    An image depends on the seed, its character, its split and its number alone: asking for more classes adds to the set
    and changes nothing in it.

    Args:
        classes: how many characters; they mix scripts, so that any part of them is about as hard as another.
        train_per_class: images of split ``train``.
        test_per_class: images of split ``test``.
        size: side in pixels.
        seed: of everything but the choice of characters.
        on_progress: called with images done and in all.

    Raises:
        InputError: more classes than there are distinct characters, or numbers below 1.
    """
    alphabet = characters()
    if not 1 <= classes <= len(alphabet):
        raise InputError(f"The set glyphs has {len(alphabet)} classes, not {classes}: ask for 1 to {len(alphabet)}.")
    if min(train_per_class, test_per_class) < 0 or train_per_class + test_per_class < 1 or size < 8:
        raise InputError(
            f"{train_per_class} training and {test_per_class} test images of {size} pixels cannot be drawn: ask for at "
            f"least one image of 8 pixels or more."
        )
    counts = {"train": train_per_class, "test": test_per_class}
    total = classes * sum(counts.values())
    images = np.empty((total, size, size, 3), dtype=np.uint8)
    labels = np.empty(total, dtype=np.int64)
    split, uris, at = [], [], 0
    for label, character in enumerate(alphabet[:classes]):
        for number, (name, count) in enumerate(counts.items()):
            draw = np.random.default_rng([seed, ord(character), number])
            images[at : at + count] = _draw(character, alphabet, count, size, draw)
            labels[at : at + count] = label
            split += [name] * count
            uris += [f"glyphs://{seed}/U+{ord(character):04X}/{name}/{index}" for index in range(count)]
            at += count
        if on_progress:
            on_progress(at, total)
    names = [f"U+{ord(character):04X} {unicodedata.name(character)}" for character in alphabet[:classes]]
    return ImageSet.from_arrays(images, labels, names, uris=uris, split=np.array(split))


@cache
def characters() -> tuple[str, ...]:
    """Characters that several fonts have and that look different from each other, scripts mixed, in a fixed order."""
    covered = [_covered(name) for name in FONTS]
    candidates = [
        chr(code)
        for first, last in BLOCKS
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in CATEGORIES and sum(code in cover for cover in covered) >= FEWEST_FONTS
    ]
    order = np.random.default_rng(0).permutation(len(candidates))
    chosen: list[str] = []
    drawings = np.empty((len(candidates), 32 * 32), dtype=np.float32)
    for index in order:
        drawing = _centred(candidates[index])
        if drawing is None or (chosen and (drawings[: len(chosen)] @ drawing).max() > ALIKE):
            continue
        drawings[len(chosen)] = drawing
        chosen.append(candidates[index])
    return tuple(chosen)


def _draw(
    character: str, alphabet: tuple[str, ...], count: int, size: int, draw: np.random.Generator
) -> NDArray[np.uint8]:
    """Images (count, size, size, 3) of one character."""
    fonts = [name for name in FONTS if ord(character) in _covered(name)]
    masks = np.empty((count, size, size), dtype=np.float32)
    clutter = np.empty((count, size, size), dtype=np.float32)
    for index in range(count):
        mask = _glyph(character, fonts[draw.integers(len(fonts))], int(draw.integers(0, 3)))
        masks[index] = _placed(mask, size, draw, READABLE)
        # A piece of another character, mostly out of the picture.
        other = alphabet[draw.integers(len(alphabet))]
        mask = _glyph(other, next(name for name in FONTS if ord(other) in _covered(name)), 0)
        piece = _placed(mask, size, draw, ANYHOW)
        towards = draw.uniform(0, 2 * np.pi)
        offset = (0.52 * size * np.array([np.sin(towards), np.cos(towards)])).astype(int)
        clutter[index] = np.roll(piece, offset, axis=(0, 1)) * _inside(offset, size)

    shape = (count, 1, 1, 3)
    background = draw.uniform(0.15, 0.85, (count, 1, 1, 1)) + draw.normal(0, 0.08, shape)
    slope = draw.normal(0, 0.1, (2, count, 1, 1, 1))
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    ground = background + slope[0] * y[None, :, :, None] + slope[1] * x[None, :, :, None]
    ground += _blotches(count, size, draw) * draw.uniform(0.0, 0.14, (count, 1, 1, 1))
    # The foreground is away from the background by a contrast of its own, towards where there is room.
    contrast = draw.uniform(0.25, 0.7, (count, 1, 1, 1)) * np.where(background.mean(3, keepdims=True) > 0.5, -1, 1)
    foreground = background + contrast + draw.normal(0, 0.09, shape)
    picture = ground + clutter[..., None] * (draw.uniform(-0.3, 0.3, shape))
    picture += masks[..., None] * (foreground - picture)
    picture += draw.normal(0, 1, picture.shape) * draw.uniform(0.005, 0.05, (count, 1, 1, 1))
    result: NDArray[np.uint8] = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    return result


def _placed(mask: Image.Image, size: int, draw: np.random.Generator, pose: Pose) -> NDArray[np.float32]:
    """A drawing scaled, rotated, slanted and shifted into a picture of ``size`` pixels; values in [0, 1]."""
    turn = np.deg2rad(draw.uniform(-pose.angle, pose.angle))
    slant = draw.uniform(-pose.shear, pose.shear)
    zoom = CANVAS / size / draw.uniform(*pose.scale)
    # From places in the picture to places in the drawing.
    matrix = (
        zoom * np.array([[1, slant], [0, 1]]) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    )
    centre = size / 2 + draw.uniform(-pose.shift, pose.shift, 2) * size
    offset = CANVAS / 2 - matrix @ centre
    place = (matrix[0, 0], matrix[0, 1], offset[0], matrix[1, 0], matrix[1, 1], offset[1])
    # Twice as large, then halved: bilinear sampling alone would alias.
    doubled = (place[0] / 2, place[1] / 2, place[2], place[3] / 2, place[4] / 2, place[5])
    drawn = mask.transform((2 * size, 2 * size), Image.Transform.AFFINE, doubled, Image.Resampling.BILINEAR)
    return np.asarray(drawn.reduce(2), dtype=np.float32) / np.float32(255)


def _inside(offset: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """1 where a picture rolled by ``offset`` did not wrap around."""
    inside = np.zeros((size, size), dtype=np.float32)
    rows, columns = (slice(max(0, o), size + min(0, o)) for o in offset)
    inside[rows, columns] = 1
    return inside


def _blotches(count: int, size: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise (count, size, size, 3) with standard deviation about 1."""
    coarse = draw.normal(0, 1, (count, 5, 5, 3))
    at = np.linspace(0, 3.999, size)
    low, share = at.astype(int), at % 1
    rows = coarse[:, low] * (1 - share)[None, :, None, None] + coarse[:, low + 1] * share[None, :, None, None]
    smooth: NDArray[np.float64] = (
        rows[:, :, low] * (1 - share)[None, None, :, None] + rows[:, :, low + 1] * share[None, None, :, None]
    )
    return smooth


@cache
def _font(name: str, points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file(name)), points)


@cache
def _covered(name: str) -> frozenset[int]:
    """The code points that a font has."""
    with extra(CHARACTERS, "report"):
        from fontTools.ttLib import TTFont

    with TTFont(_font_file(name), lazy=True) as font:
        return frozenset(font.getBestCmap())


def _font_file(name: str) -> Path:
    with extra(CHARACTERS, "report"):
        import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@cache
def _glyph(character: str, font: str, stroke: int) -> Image.Image:
    """A character in the middle of a greyscale canvas."""
    image = Image.new("L", (CANVAS, CANVAS), 0)
    left, top, right, bottom = _font(font, EXTENT).getbbox(character)
    points = round(EXTENT * EXTENT / max(right - left, bottom - top, EXTENT / 4))
    left, top, right, bottom = _font(font, points).getbbox(character, stroke_width=stroke)
    place = (CANVAS - (right - left)) / 2 - left, (CANVAS - (bottom - top)) / 2 - top
    ImageDraw.Draw(image).text(place, character, fill=255, font=_font(font, points), stroke_width=stroke)
    return image


def _centred(character: str) -> NDArray[np.float32] | None:
    """A unit vector (1024,) of the drawing in one font, scaled to fill it; ``None`` where it is empty."""
    name = next(name for name in FONTS if ord(character) in _covered(name))
    image = _glyph(character, name, 0)
    box = image.getbbox()
    if box is None:
        return None
    side = max(box[2] - box[0], box[3] - box[1])
    if side < 14:
        # Dots and commas are too small to be told apart by more than their place.
        return None
    square = Image.new("L", (side, side), 0)
    cut = image.crop(box)
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    values = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32).ravel()
    return values / np.linalg.norm(values)

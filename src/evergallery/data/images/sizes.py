"""Sizes of pictures: the side of a square, or height and width."""

from collections.abc import Sequence
from typing import Any

from evergallery.errors import InputError

Size = int | tuple[int, int]
"""The side of a square in pixels, or height and width of a rectangle."""
LARGEST = 4096


def sides(size: Size) -> tuple[int, int]:
    """Height and width of a size."""
    return (size, size) if isinstance(size, int) else size


def size_of(sides: Sequence[int]) -> Size:
    """The size with this height and width."""
    height, width = sides
    return height if height == width else (height, width)


def size_text(size: Size) -> str:
    """A size as people write it: ``224``, or ``256x128`` for height and width."""
    return "x".join(map(str, (size,) if isinstance(size, int) else size))


def read_size(text: str) -> Size:
    """The size that somebody has written so.

    Raises:
        InputError: it is none.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise InputError(
            f"The image size is {text!r}: write 224 for a square, or 256x128 for height and width in pixels."
        )
    return checked_size(int(parts[0]) if len(parts) == 1 else [int(part) for part in parts])


def checked_size(size: Any) -> Size:
    """A size from a number, or from two in a list, as a card has them.

    Raises:
        InputError: it is none.
    """
    numbers = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(numbers) != 2 or not all(type(side) is int and 1 <= side <= LARGEST for side in numbers):
        raise InputError(
            f"The image size is {size!r}: it must be a whole number of pixels from 1 to {LARGEST}, or height and width."
        )
    return size_of(numbers)

"""A model with a text tower, as a double of a large one: it sees the mean colour, and knows the names of three."""

import numpy as np
from numpy.typing import NDArray

import models

Vectors = NDArray[np.float32]
COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0)}


def embed(images: Vectors) -> Vectors:
    return models.better(images)


def embed_text(words: str) -> Vectors:
    """What the image tower makes of a picture of that colour."""
    found = [colour for name, colour in COLOURS.items() if name in words]
    if not found:
        raise ValueError(f"nothing is known of {words!r}")
    mean: Vectors = np.asarray(found, np.float32).mean(axis=0)
    picture = np.ones((1, 3, 4, 4), np.float32) * mean[None, :, None, None]
    made: Vectors = 7 * embed(picture)[0]
    return made

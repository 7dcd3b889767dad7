"""A model of two towers in PyTorch, as CLIP is one, in small: pictures of coloured shapes and words about them meet in one space.

It is trained where it is first asked, in about a second, by CLIP's loss (Radford et al. 2021, figure 3).
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}
SHAPES = ("square", "cross", "frame")
WORDS = (*COLOURS, *SHAPES)
SIDE = 16
Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


def picture(colour: str, shape: str, draw: np.random.Generator) -> Pixels:
    """(16, 16, 3): a shape of a colour somewhere on a grey ground."""
    pixels = np.full((SIDE, SIDE, 3), draw.integers(90, 160), np.uint8)
    top, left = draw.integers(0, SIDE - 9, 2)
    mask = np.zeros((9, 9), bool)
    if shape == "cross":
        mask[3:6] = mask[:, 3:6] = True
    else:
        mask[:] = True
        mask[2:7, 2:7] = shape == "square"
    pixels[top : top + 9, left : left + 9][mask] = COLOURS[colour]
    return pixels


class TwoTowers(nn.Module):
    """Convolutions for pictures, sums of learned vectors for words, and the temperature between them."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = nn.Sequential(
            nn.Conv2d(3, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(48, 16),
        )  # fmt: skip
        self.words = nn.Sequential(nn.EmbeddingBag(len(WORDS), 32, mode="sum"), nn.ReLU(), nn.Linear(32, 16))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The loss of pictures (B, 3, 16, 16) and the numbers of their words (B, 2)."""
        seen, read = F.normalize(self.pictures(images)), F.normalize(self.words(numbers))
        scores = self.temperature.exp() * seen @ read.T
        right = torch.arange(len(images))
        return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def _batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    draw = np.random.default_rng(0)
    kinds = list(product(COLOURS, SHAPES))
    numbers = torch.tensor([[WORDS.index(colour), WORDS.index(shape)] for colour, shape in kinds])
    for _ in range(steps):
        pixels = np.stack([picture(colour, shape, draw) for colour, shape in kinds])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, numbers


@cache
def model() -> TwoTowers:
    """The trained model; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        towers = TwoTowers()
        optimiser = torch.optim.Adam(towers.parameters(), 4e-3)
        for images, numbers in _batches(250):
            optimiser.zero_grad()
            towers(images, numbers).backward()
            optimiser.step()
    return towers.eval()


@torch.inference_mode()
def embed(images: Vectors) -> Vectors:
    """float32 (B, 3, H, W) of pixels in [-1, 1], to float32 (B, 16)."""
    made: Vectors = model().pictures(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    return made


@torch.inference_mode()
def embed_text(words: str) -> Vectors:
    """The words that it knows in a text, as one vector (16,)."""
    known = [WORDS.index(word) for word in words.lower().split() if word in WORDS]
    if not known:
        raise ValueError(f"none of {words!r} is a word of this model: it knows {', '.join(WORDS)}")
    made: Vectors = model().words(torch.tensor([known]))[0].numpy()
    return made

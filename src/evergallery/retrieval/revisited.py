"""Mean average precision of revisited Oxford and Paris (Radenović, Iscen, Tolias, Avrithis, Chum; CVPR 2018)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evergallery.errors import InputError

Difficulty = Literal["easy", "medium", "hard"]
RELEVANT: Mapping[Difficulty, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""The lists of each protocol that are relevant, and those that are left out of the ranking."""


@dataclass(frozen=True)
class Landmark:
    """The judgements of one query: indices of gallery images.

    Attributes:
        easy: show the landmark clearly.
        hard: show it, under conditions that make it hard to find.
        junk: show it hardly; they count neither way.
    """

    easy: Sequence[int]
    hard: Sequence[int]
    junk: Sequence[int]


def revisited_map(ranking: Tensor, landmarks: Sequence[Landmark], difficulty: Difficulty) -> float:
    """mAP under one protocol; queries without a relevant image are left out, as in the published evaluation.

    Each average precision is the area under the curve by trapezoids: a hit at place i with j hits before it adds the mean of
    ``j / i`` and ``(j + 1) / (i + 1)``, places counted from 0 without the junk, and ``j / i`` being 1 at place 0.

    Args:
        ranking: (Q, G) indices of the gallery, best first.
        landmarks: Q of them.
        difficulty: ``easy``, ``medium`` or ``hard``.

    Raises:
        InputError: not one landmark for each query, or no query with a relevant image.
    """
    if len(ranking) != len(landmarks):
        raise InputError(f"There are {len(ranking)} rankings and {len(landmarks)} landmarks: give one for each query.")
    relevant, left_out = RELEVANT[difficulty]
    values = []
    for row, landmark in zip(ranking, landmarks, strict=True):
        wanted = torch.tensor([i for name in relevant for i in getattr(landmark, name)], dtype=torch.int64)
        if len(wanted) == 0:
            continue
        junk = torch.tensor([i for name in left_out for i in getattr(landmark, name)], dtype=torch.int64)
        kept = row[~torch.isin(row, junk)]
        values.append(_trapezoids(torch.isin(kept, wanted).nonzero().flatten(), len(wanted)))
    if not values:
        raise InputError(f"No query has a relevant image under the protocol {difficulty!r}.")
    return torch.stack(values).mean().item()


def _trapezoids(places: Tensor, relevant: int) -> Tensor:
    """Average precision from the places (H,) of the hits, counted from 0, of so many relevant images."""
    hits = torch.arange(len(places), dtype=torch.float64)
    before = torch.where(places == 0, 1.0, hits / places.clamp(min=1))
    after = (hits + 1) / (places + 1)
    return (before + after).sum() / (2 * relevant)

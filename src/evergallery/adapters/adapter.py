"""What an adapter is: a map of unit rows to unit rows, learned from pairs of the same images."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from evergallery.errors import InputError

Adapter = Callable[[Tensor], Tensor]
"""(N, D) unit rows of one space to (N, D') unit rows of the other."""

Direction = Literal["query", "gallery"]
"""``query``: new embeddings into the old space. ``gallery``: stored embeddings into the new one."""


def check_pairs(new: Tensor, old: Tensor) -> None:
    """Refuse what is not two embeddings of each image.

    Raises:
        InputError: one sentence.
    """
    if new.ndim != 2 or old.ndim != 2 or len(new) != len(old) or len(new) == 0:
        raise InputError(
            f"An adapter learns from pairs and got embeddings of shapes {tuple(new.shape)} and {tuple(old.shape)}: "
            f"give both generations' embeddings of the same images, in the same order."
        )

"""Vectors of one space from those of another, without any image."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evergallery.generations.generation import Generation
from evergallery.holdings.spaces import Space

if TYPE_CHECKING:
    from evergallery.network import Extractor

Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Vectors (N, D) of one space to vectors (N, D') of another."""


def maps_to(
    target: Space, makers: Sequence[Generation], embedder: "Callable[[Generation], Extractor]"
) -> dict[str, Map]:
    """Return how vectors of some generations become those of a target space without any image, by fingerprint.

    By the target's adapter, which maps those of its source; or exactly, where the two share a frozen backbone.

    Args:
        target: the space that is wanted.
        makers: generations whose vectors are stored.
        embedder: loads one.
    """
    if target.adapter is not None:
        return {target.maker.fingerprint: target.map}
    wanted = target.maker
    maps = {}
    for maker in makers:
        if maker.fingerprint == wanted.fingerprint or not (maker.can_be_parent and wanted.can_be_parent):
            continue
        if maker.is_expanded or wanted.is_expanded:
            continue
        if (maker.architecture.backbone, maker.preprocessing) != (wanted.architecture.backbone, wanted.preprocessing):
            continue
        # Networks are built only for generations whose cards say that they may be relatives.
        from evergallery.network import Embedder
        from evergallery.network.relatives import vectors_between

        source, goal = embedder(maker), embedder(wanted)
        if not (isinstance(source, Embedder) and isinstance(goal, Embedder)):
            continue
        between = vectors_between((source, maker.preprocessing), (goal, wanted.preprocessing))
        if between is not None:
            maps[maker.fingerprint] = between
    return maps

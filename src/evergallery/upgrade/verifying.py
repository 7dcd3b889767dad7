"""The verb ``verify``: pairs, templates and landmarks, by one generation and across two."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.data.evaluation_sets import Figures, evaluation_set
from evergallery.files import is_writable
from evergallery.holdings.embedding import extract, extract_raw
from evergallery.holdings.holdings import Holdings
from evergallery.retrieval.width import ONE, in_width_of, unit_and_length
from evergallery.watching import SILENT, Watcher


@dataclass(frozen=True)
class Verification:
    """The results of generations on an evaluation set.

    Attributes:
        set: its name.
        images: how many.
        figures: by name, in [0, 1], of each test: by the generation that asks and the one whose vectors are stored.
    """

    set: str
    images: int
    figures: dict[tuple[str, str], Figures]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        tests = [{"queries": new, "vectors": old, **found} for (new, old), found in self.figures.items()]
        return {**asdict(self), "figures": tests}


def verify(
    holdings: Holdings,
    generation: str,
    data: str | Path,
    *,
    against: str | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Verification:
    """Measure a generation on pairs, templates or landmarks, alone and in the vectors of an earlier one.

    It opens no gate: these images are nobody's gallery. Queries of another width than the vectors are cut, or padded with zeros.

    Args:
        generation: the one that asks.
        data: ``lfw`` (pairs in ten folds), ``ijb-c`` or ``ijb-c-weighted`` (templates, of images alike, or by length and
            detector), ``roxford5k`` or ``rparis6k`` (landmarks with junk), ``gldv2-retrieval`` (mAP@100 in its index), or a
            ``.csv`` table ``first,second,same[,fold]`` of pairs of one's own.
        against: another generation, whose vectors would be stored.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: the set is not complete, or has an image that cannot be read.
        NotFoundError: no such generation.
    """
    new = holdings.generation(generation)
    old = None if against is None else holdings.generation(against)
    chosen = evaluation_set(str(data), data_dir)
    cache = holdings.directory / "cache" if is_writable(holdings.directory) else None
    vectors: dict[str, NDArray[np.float32]] = {}
    lengths: dict[str, NDArray[np.float32]] = {}
    for maker in (new,) if old is None else (old, new):
        images = chosen.images(maker.preprocessing, cache, watcher)
        if chosen.by_length:
            vectors[maker.name], lengths[maker.name] = unit_and_length(extract_raw(holdings, maker, images, watcher))
        else:
            vectors[maker.name], lengths[maker.name] = extract(holdings, maker, images, watcher), ONE
    tests = [(new.name, new.name)] if old is None else [(old.name,) * 2, (new.name,) * 2, (new.name, old.name)]
    figures = {}
    for asking, searched in dict.fromkeys(tests):
        queries = in_width_of(vectors[asking], vectors[searched]) * lengths[asking]
        gallery = vectors[searched] * lengths[searched]
        figures[asking, searched] = chosen.figures(torch.from_numpy(queries), torch.from_numpy(gallery))
    return Verification(chosen.name, len(chosen.entries), figures)

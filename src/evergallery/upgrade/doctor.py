"""The verb ``doctor``: everything that a workspace holds, and what may be compared in it."""

from itertools import islice

import numpy as np

from evergallery.errors import EvergalleryError, InputError, StoredFileError, require_at_least
from evergallery.gallery.items import Filter, Item
from evergallery.generations.generation import Generation
from evergallery.holdings.examining import examine
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.notes import Problem
from evergallery.holdings.vector_faults import rows_of
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.kept_evidence import read_check
from evergallery.watching import SILENT, Watcher

SAME = 0.95
"""Cosine of what a model makes of a picture, and the stored vector, from which on both are taken for the same: another program
that reads and scales pictures moves it by a few hundredths."""
FEW = 0.02
"""Share of the pictures that may have changed unseen."""


def doctor(holdings: Holdings, *, embed: int = 0, watcher: Watcher = SILENT) -> list[str]:
    """Verify every checksum and count, every image file, check and token; returns what is wrong, a sentence each.

    Stored vectors are looked at beside each other, too: one vector for several pictures, and vectors of another space.

    Args:
        embed: pictures of each generation that it looks at again, to see whether it made their vectors.
        watcher: hears of progress.

    Raises:
        InputError: fewer pictures than none.
    """
    require_at_least("embed", embed, 0)
    found = examine(holdings)
    if embed:
        try:
            held = holdings.gallery.generations()
            for maker in holdings.generations():
                if maker.fingerprint in held and maker.extracts:
                    found += _embedded_again(holdings, maker, embed, watcher)
        except EvergalleryError as error:
            found.append(str(error))
    try:
        gate_of(holdings)
    except InputError as error:
        found.append(str(error))
    for path in sorted((holdings.directory / "checks").glob("*-in-*.json")):
        try:
            read_check(path)
        except StoredFileError as error:
            found.append(str(error))
    # What keeps the models from being read keeps the gallery from being opened.
    return list(dict.fromkeys(found))


def _embedded_again(holdings: Holdings, maker: Generation, most: int, watcher: Watcher) -> list[str]:
    """Return whether a generation makes of its pictures the vectors that are stored, on a random sample of them."""
    from evergallery.extraction.opening import extracting

    roots = holdings.roots
    pages = holdings.gallery.iterate(Filter(generations=(maker.fingerprint,)))
    # Items come in order of hashes: the first ones are a random sample.
    items = list(islice((item for page in pages for item in page if item.uri and roots.admits(item.uri)), most))
    if not items:
        return []
    odd, cosines = list[Item](), list[float]()
    with extracting(holdings, maker) as extraction:
        for batch, made in extraction.renew([items], len(items), None, roots):
            for item, answer in zip(batch, made, strict=True):
                if not isinstance(answer, Problem):
                    cosines.append(float(answer @ item.embedding))
                    odd += [item] if cosines[-1] < SAME else []
            watcher.counted(f"looking at pictures again with {maker.name}", len(batch), len(items))
    if len(odd) < 2 or len(odd) <= FEW * len(cosines):
        return []
    return [
        f"Of {len(cosines)} pictures that {maker.name} was shown again {rows_of(odd)} have another vector than the stored one "
        f"(median cosine {np.median(cosines):.2f}): another model or preprocessing made them, or the pictures have changed. Name "
        f"the model that made them, or make them again."
    ]

"""Figures of verification (are these two the same?) and of open-set identification, from scores alone.

Scores are similarities: more is more alike. Across generations the first of each pair is embedded by the new one and the second
by the old one; nothing here asks who made the vectors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.errors import InputError


def templates(
    embeddings: Tensor, template: Tensor, media: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """(T, D) unit rows: the mean of the unit embeddings of each template, as IJB-C is evaluated (Maze et al. 2018).

    Args:
        embeddings: (N, D) rows of unit length, or of the length that an image is to count by.
        template: (N,) index 0 … T - 1 of the template that an image belongs to; each has at least one.
        media: (N,) number of the photograph or video that it comes from: the frames of a video count as their mean, once.
        weight: (N,) how much each image counts, above 0; all alike by default.

    Raises:
        InputError: not one index for each embedding, or a template without an image.
    """
    for index in (template, template if media is None else media):
        if index.ndim != 1 or len(index) != len(embeddings) or (len(index) and int(index.min()) < 0):
            raise InputError(
                f"{len(embeddings)} embeddings need an index of a template each: got {tuple(index.shape)}."
            )
    counts = torch.bincount(template)
    if (counts == 0).any():
        raise InputError(f"Template {int((counts == 0).nonzero()[0])} has no image.")
    if weight is not None:
        embeddings = embeddings * weight.to(embeddings).unsqueeze(1)
    if media is not None:
        _, medium = torch.unique(media, return_inverse=True)
        source = template * (int(medium.max()) + 1) + medium
        _, source, frames = torch.unique(source, return_inverse=True, return_counts=True)
        embeddings = embeddings / frames[source].unsqueeze(1)
    sums = embeddings.new_zeros(len(counts), embeddings.shape[1]).index_add(0, template, embeddings)
    return F.normalize(sums)


def tar_at_far(scores: Tensor, same: Tensor, rates: Sequence[float] = (1e-4,)) -> dict[float, float]:
    """TAR@FAR: share of the genuine pairs above the lowest threshold at which at most this share of impostors is above it.

    A pair is accepted where its score is greater than the threshold, which is an impostor's score or, where no impostor may
    pass, the greatest of them.

    Args:
        scores: (P,).
        same: (P,) bool, whether a pair is genuine.
        rates: FAR, each in [0, 1).

    Raises:
        InputError: no genuine pair or no impostor, or too few impostors to tell a rate above 0.
    """
    genuine, impostor = scores[same], scores[~same]
    if scores.shape != same.shape or scores.ndim != 1 or len(genuine) == 0 or len(impostor) == 0:
        raise InputError(
            f"{len(genuine)} genuine and {len(impostor)} impostor pairs: verification needs scores of both kinds."
        )
    found = {}
    falling = impostor.sort(descending=True).values
    for rate in rates:
        found[rate] = (genuine > _threshold(falling, rate, "impostor pairs")).double().mean().item()
    return found


def tpir_at_fpir(
    mates: Tensor, non_mates: Tensor, hits: Tensor, rates: Sequence[float] = (1e-2, 1e-1)
) -> dict[float, float]:
    """TPIR@FPIR: share of mated searches whose best candidate is right and above the threshold of a false-positive rate.

    The threshold is the lowest at which at most this share of the searches for people who are not in the gallery finds anybody
    (NIST FRVT 1:N).

    Args:
        mates: (Q,) score of the best candidate of each search that has a mate in the gallery.
        non_mates: (R,) score of the best candidate of each search that has none.
        hits: (Q,) bool, whether that best candidate is the mate.
        rates: FPIR, each in [0, 1).

    Raises:
        InputError: no search of one kind, or too few of the second to tell a rate above 0.
    """
    if len(mates) == 0 or len(non_mates) == 0 or hits.shape != mates.shape:
        raise InputError(f"{len(mates)} mated and {len(non_mates)} other searches: identification needs both kinds.")
    falling = non_mates.sort(descending=True).values
    found = {}
    for rate in rates:
        found[rate] = (hits & (mates > _threshold(falling, rate, "searches without a mate"))).double().mean().item()
    return found


def pair_accuracy(scores: Tensor, same: Tensor, folds: Tensor) -> float:
    """Mean accuracy over folds, each at the threshold that is best on the others (Huang et al. 2007, LFW: ten folds of 600).

    Of several thresholds that are equally good the lowest is taken.

    Args:
        scores: (P,).
        same: (P,) bool.
        folds: (P,) index of the fold of each pair, at least two.

    Raises:
        InputError: shapes that do not fit, or a single fold.
    """
    numbers = torch.unique(folds)
    if not scores.shape == same.shape == folds.shape or scores.ndim != 1 or len(numbers) < 2:
        raise InputError(f"Pairs need a score, an answer and a fold each, of two folds or more: got {len(numbers)}.")
    accuracies = []
    for fold in numbers:
        test = folds == fold
        threshold = _best_threshold(scores[~test], same[~test])
        accuracies.append(((scores[test] >= threshold) == same[test]).double().mean())
    return torch.stack(accuracies).mean().item()


def _threshold(falling: Tensor, rate: float, what: str) -> Tensor:
    if not 0 <= rate < 1:
        raise InputError(f"A rate of {rate} is not in [0, 1).")
    allowed = int(rate * len(falling) + 1e-9)
    if rate > 0 and allowed == 0:
        raise InputError(f"A rate of {rate:g} cannot be told from {len(falling)} {what}: it needs {round(1 / rate)}.")
    return falling[allowed]


def _best_threshold(scores: Tensor, same: Tensor) -> Tensor:
    """The score from which on "the same" is answered that makes most answers right."""
    values, order = scores.sort()
    right = same[order].long()
    # From place i on, everything is called the same: right are the genuine ones there and the others before it.
    genuine = right.flip(0).cumsum(0).flip(0)
    before = torch.cat([right.new_zeros(1), (1 - right).cumsum(0)[:-1]])
    correct = genuine + before
    # Equal scores fall together: only the first place of each run is a threshold.
    first = torch.ones_like(values, dtype=torch.bool)
    first[1:] = values[1:] != values[:-1]
    best = torch.where(first, correct, -1)
    if int((1 - right).sum()) > int(best.max()):
        return values[-1] + 1  # Nothing is called the same.
    return values[best.argmax()]

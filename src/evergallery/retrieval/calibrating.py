"""The fit of the sigmoid of one pair of generations on held-out images."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import count_positives

DEPTH = 20
MOST_STEPS = 100


def fit_calibration(scores: Tensor, matches: Tensor) -> Calibration | None:
    """Logistic regression of match on score, with Platt's smoothed targets (Platt 1999; Lin, Lin and Weng 2007).

    Args:
        scores: (M,) cosines.
        matches: (M,) bool, whether query and item are of one class.

    Returns:
        ``None`` where the scores do not tell matches from others: one of both kinds is missing, or matches do not
        score higher.

    Raises:
        InputError: not one outcome for each score.
    """
    if scores.ndim != 1 or scores.shape != matches.shape or matches.dtype != torch.bool:
        raise InputError(
            f"A calibration needs (M,) scores and as many outcomes: got {tuple(scores.shape)} and {tuple(matches.shape)}."
        )
    positive = int(matches.sum())
    negative = len(matches) - positive
    if positive == 0 or negative == 0:
        return None
    x = scores.double()
    mean, spread = x.mean(), x.std().clamp_min(1e-12)
    x = (x - mean) / spread
    target = torch.where(matches, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, intercept = 0.0, math.log((positive + 1) / (negative + 1))

    def loss(a: float, b: float) -> float:
        logits = a * x + b
        return float((torch.nn.functional.softplus(logits) - target * logits).sum())

    now = loss(slope, intercept)
    for _ in range(MOST_STEPS):
        p = torch.sigmoid(slope * x + intercept)
        error, weight = p - target, p * (1 - p)
        g = float((error * x).sum()), float(error.sum())
        # A trace of ridge keeps the Hessian invertible where the classes separate.
        h = float((weight * x * x).sum()) + 1e-9, float((weight * x).sum()), float(weight.sum()) + 1e-9
        determinant = h[0] * h[2] - h[1] ** 2
        step = (h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant
        size = 1.0
        while size > 1e-8:
            after = loss(slope - size * step[0], intercept - size * step[1])
            if after <= now:
                break
            size /= 2
        else:
            break
        slope, intercept = slope - size * step[0], intercept - size * step[1]
        if now - after < 1e-10 * max(1.0, abs(now)):
            break
        now = after
    if slope <= 0:
        return None
    scale = slope / float(spread)
    return Calibration(scale, intercept - scale * float(mean))


def calibrate(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    exclusion: Exclusion | None = None,
    depth: int = DEPTH,
) -> Calibration | None:
    """Fit on what a search shows: the ``depth`` nearest items of every query.

    Args:
        query: (Q, D) unit rows.
        query_labels: (Q,).
        gallery: (G, D) unit rows.
        gallery_labels: (G,).
        exclusion: what each query must not find.
        depth: items of each query.

    Returns:
        ``None`` where the scores tell nothing.
    """
    found = nearest(query, gallery, min(depth, len(gallery)), exclusion=exclusion)
    there = found.indices >= 0
    matches = gallery_labels[found.indices.clamp(min=0)] == query_labels[:, None]
    fitted = fit_calibration(found.scores[there], matches[there])
    if fitted is None:
        return None
    presence = fit_presence(query, query_labels, gallery, gallery_labels, exclusion=exclusion)
    return fitted if presence is None else replace(fitted, presence=(presence.slope, presence.intercept))


def fit_presence(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    exclusion: Exclusion | None = None,
) -> Calibration | None:
    """Fit, on the score of each query's best item, whether anything of its class is there.

    Each query is asked twice: as it is, and as if its own class were not in the gallery, which is what a picture of something
    unknown meets. Both cases are as likely. In a gallery that is much larger than this one, the best item of another class
    scores higher than here, so that the probability is too high there.

    Args:
        query: (Q, D) unit rows.
        query_labels: (Q,).
        gallery: (G, D) unit rows.
        gallery_labels: (G,).
        exclusion: what each query must not find.

    Returns:
        ``None`` where the scores do not tell the two cases apart.
    """
    there = count_positives(query_labels, gallery_labels, exclusion or Exclusion()) > 0
    # Items of the query's class are left out as those of one camera are: as if all were of camera 0.
    query_cameras, gallery_cameras = torch.zeros_like(query_labels), torch.zeros_like(gallery_labels)
    elsewhere = Exclusion(None, query_labels, gallery_labels, query_cameras, gallery_cameras)
    known = nearest(query, gallery, 1, exclusion=exclusion).scores[there, 0]
    unknown = nearest(query, gallery, 1, exclusion=elsewhere).scores[there, 0]
    unknown = unknown[unknown > -torch.inf]
    scores = torch.cat([known, unknown])
    return fit_calibration(scores, torch.arange(len(scores), device=scores.device) < len(known))

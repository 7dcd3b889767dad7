"""Generations side by side: every newer query against every older gallery, and the queries that flip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate


def compatibility_matrix(
    query_embeddings: Sequence[Tensor],
    query_labels: Tensor,
    gallery_embeddings: Sequence[Tensor],
    gallery_labels: Tensor,
    **arguments: Any,
) -> tuple[tuple[RetrievalMetrics, ...], ...]:
    """M(q, g): queries of generation q in the gallery of generation g, for every q ≥ g (Biondi et al. 2023, CoReS).

    The diagonal is each generation's self-test; the cells below it are the cross-tests that no gallery is re-extracted
    for. T extractions on each side make the T (T + 1) / 2 cells.

    Args:
        query_embeddings: T of (Q, D) unit rows, oldest first.
        query_labels: (Q,).
        gallery_embeddings: T of (G, D) unit rows, oldest first.
        gallery_labels: (G,).
        arguments: of ``evaluate``.

    Returns:
        Lower triangle: ``matrix[q][g]``, row q of length q + 1.

    Raises:
        InputError: not as many galleries as queries, or what ``evaluate`` refuses, for instance different widths.
    """
    if len(query_embeddings) != len(gallery_embeddings):
        raise InputError(
            f"There are queries of {len(query_embeddings)} generations and galleries of {len(gallery_embeddings)}: "
            f"give both for each generation."
        )
    return tuple(
        tuple(
            evaluate(queries, query_labels, gallery, gallery_labels, **arguments)
            for gallery in gallery_embeddings[: generation + 1]
        )
        for generation, queries in enumerate(query_embeddings)
    )


def negative_flip_rate(old_correct: Tensor, new_correct: Tensor) -> float:
    """Share of queries that become wrong: ``1/Q Σ_q 1[old correct and new wrong]`` (Yan et al. 2021).

    ``positive_flip_rate - negative_flip_rate`` is the change of recall@1.

    Args:
        old_correct: (Q,) bool, for instance ``metrics.hits_at_1[metrics.valid]``.
        new_correct: (Q,) bool, the same queries in the same order.

    Raises:
        InputError: not two (Q,) bool tensors of the same length, or no query.
    """
    _check(old_correct, new_correct)
    return (old_correct & ~new_correct).double().mean().item()


def positive_flip_rate(old_correct: Tensor, new_correct: Tensor) -> float:
    """Share of queries that become right: ``1/Q Σ_q 1[old wrong and new correct]`` (Yan et al. 2021).

    Args:
        old_correct: (Q,) bool.
        new_correct: (Q,) bool, the same queries in the same order.

    Raises:
        InputError: not two (Q,) bool tensors of the same length, or no query.
    """
    return negative_flip_rate(new_correct, old_correct)


def neighbour_agreement(new: Tensor, old: Tensor) -> float:
    """Share of images whose nearest other image is the same to a new query as to an old one, both among the old vectors.

    What an update did to old vectors shows on the new images, which everybody has: where these keep their neighbours, so do the
    old ones. The plain cosine of new and old misleads, since it does not say how close the next image is.

    Args:
        new: (N, D) unit embeddings after the update.
        old: (N, D) unit embeddings of the same images before it.

    Returns:
        In [0, 1]; 1 where fewer than three images leave nothing to choose from.
    """
    if len(old) < 3:
        return 1.0
    itself = Exclusion(torch.arange(len(old), device=old.device))
    after, before = (nearest(queries, old, 1, exclusion=itself).indices for queries in (new, old))
    return float((after == before).float().mean())


def _check(first: Tensor, second: Tensor) -> None:
    for correct in (first, second):
        # On integers, ~ would turn 0 and 1 into -1 and -2.
        if correct.ndim != 1 or correct.dtype != torch.bool:
            raise InputError(
                f"Outcomes have shape {tuple(correct.shape)} and type {correct.dtype}: give (Q,) of torch.bool."
            )
    if len(first) != len(second) or len(first) == 0:
        raise InputError(f"Outcomes of {len(first)} and {len(second)} queries: give the same queries, at least one.")

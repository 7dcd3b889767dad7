"""Figures of a lineage, each a pure function of a matrix.

Two matrices, in both of which the entries above the diagonal do not exist and are never read:

- continual, ``A[t, k]``: the metric on the classes of task k after training task t;
- compatibility, ``C[q, g]``: the metric with queries of generation q in the gallery that generation g stored.

A figure that needs at least two tasks or generations is ``None`` where there is only one.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError

Matrix = NDArray[np.float64]


def average_recall(continual: Matrix) -> float:
    """``1/T Σ_k A[T, k]``: all tasks, after the last one.

    Args:
        continual: A (T, T).
    """
    return float(_square(continual)[-1].mean())


def average_recall_over_time(continual: Matrix) -> float:
    """``1/T Σ_t 1/t Σ_{k ≤ t} A[t, k]``: what a user met on the way, not only at its end.

    Args:
        continual: A (T, T).
    """
    matrix = _square(continual)
    return float(np.mean([matrix[t, : t + 1].mean() for t in range(len(matrix))]))


def forgetting(continual: Matrix) -> float | None:
    """``1/(T-1) Σ_{k < T} (max_{k ≤ t < T} A[t, k] - A[T, k])`` (Chaudhry et al. 2018); negative where old tasks gained.

    Args:
        continual: A (T, T).
    """
    matrix = _square(continual)
    last = len(matrix) - 1
    if last == 0:
        return None
    return float(np.mean([matrix[k:last, k].max() - matrix[last, k] for k in range(last)]))


def backward_transfer(continual: Matrix) -> float | None:
    """``1/(T-1) Σ_{k < T} (A[T, k] - A[k, k])`` (Lopez-Paz and Ranzato 2017).

    Args:
        continual: A (T, T).
    """
    matrix = _square(continual)
    if len(matrix) == 1:
        return None
    return float((matrix[-1, :-1] - matrix.diagonal()[:-1]).mean())


def plasticity(continual: Matrix) -> float | None:
    """``1/(T-1) Σ_{k > 1} A[k, k]``: how well tasks are learned when their turn comes; the first one is no update.

    Args:
        continual: A (T, T).
    """
    matrix = _square(continual)
    return None if len(matrix) == 1 else float(matrix.diagonal()[1:].mean())


def intransigence(continual: Matrix, expert: Sequence[float]) -> float | None:
    """``1/(T-1) Σ_{k > 1} (A*[k] - A[k, k])``: what the past costs a new task (Chaudhry et al. 2018).

    Args:
        continual: A (T, T).
        expert: A* (T,), the metric on each task of a network that learned that task alone.

    Raises:
        InputError: not one value for each task.
    """
    matrix = _square(continual)
    if len(expert) != len(matrix):
        raise InputError(f"There are {len(expert)} experts for {len(matrix)} tasks: give one for each.")
    if len(matrix) == 1:
        return None
    return float((np.asarray(expert, dtype=float) - matrix.diagonal())[1:].mean())


def average_compatibility(compatibility: Matrix) -> float | None:
    """AC, ``2/(T(T-1)) Σ_{q > g} 1[C[q, g] > C[g, g]]``: share of pairs for which the update paid.

    Strict: a new generation that finds no more in the old gallery than the old one did is not compatible (Shen et al.
    2020 and the code of Biondi et al. 2024; that of CoReS and CL2R counts equality).

    Args:
        compatibility: C (T, T).
    """
    matrix = _square(compatibility)
    below = np.tril_indices(len(matrix), -1)
    return None if len(matrix) == 1 else float((matrix > matrix.diagonal())[below].mean())


def average_multimodel(compatibility: Matrix) -> float:
    """AM, ``2/(T(T+1)) Σ_{q ≥ g} C[q, g]``: mean of the matrix, self-tests included (Biondi et al. 2023, CoReS).

    Args:
        compatibility: C (T, T).
    """
    matrix = _square(compatibility)
    return float(matrix[np.tril_indices(len(matrix))].mean())


def backward_compatibility_change(compatibility: Matrix) -> float | None:
    """BC, ``1/(T-1) Σ_{g < T} (C[T, g] - C[g, g])``: the last generation in every earlier gallery (CL2R).

    Args:
        compatibility: C (T, T).
    """
    return backward_transfer(compatibility)


def forward_compatibility_change(compatibility: Matrix) -> float | None:
    """FC, ``1/(T-1) Σ_{q ≥ 2} (C[q, q-1] - C[q, q])``: each generation in its parent's gallery, beside its own (CL2R).

    Args:
        compatibility: C (T, T).
    """
    matrix = _square(compatibility)
    return None if len(matrix) == 1 else float((matrix.diagonal(-1) - matrix.diagonal()[1:]).mean())


def along_the_way(figure: Callable[[Matrix], float | None], matrix: Matrix) -> list[float | None]:
    """A figure as it stood after each task or generation: of the first row alone, of the first two, … of all T.

    Args:
        figure: any of those above, of a matrix.
        matrix: A or C (T, T).

    Returns:
        T values.
    """
    whole = _square(matrix)
    return [figure(whole[:count, :count]) for count in range(1, len(whole) + 1)]


def update_gain(new_old: float, old_old: float, best: float) -> float | None:
    """Γ, ``(M(new, old) - M(old, old)) / (M* - M(old, old))`` (Shen et al. 2020).

    1 where the old gallery serves as well as a full refresh would, 0 where nothing was gained, negative where it was
    better not to update; ``None`` where the unconstrained recipe is itself no better than the old generation.

    Args:
        new_old: queries of the new generation, gallery of the old one.
        old_old: the old generation alone.
        best: M*, the same recipe without constraint, both sides new.
    """
    return None if best <= old_old else (new_old - old_old) / (best - old_old)


def price(best: float, new_self: float) -> float:
    """``M* - M(new, new)``: what compatibility cost the new generation's own search.

    Args:
        best: M*, the same recipe without constraint.
        new_self: the new generation alone.
    """
    return best - new_self


def advbct_update(new_self: float, best: float) -> float:
    """P_up of one test set, ``σ((M(new, new) - M*) / M*)`` with the logistic σ (AdvBCT, Pan et al. 2023); ½ is neutral.

    The paper's figure is 100 times its mean over the test sets; the form is recovered from the published tables.

    Args:
        new_self: the new generation alone.
        best: M*, the same recipe without constraint, above 0.
    """
    return _logistic((new_self - best) / best)


def advbct_compatibility(new_old: float, old_old: float, best: float) -> float | None:
    """P_comp of one test set, ``σ(Γ)`` of the update gain (AdvBCT, Pan et al. 2023); ½ is neutral.

    Args:
        new_old: queries of the new generation, gallery of the old one.
        old_old: the old generation alone.
        best: M*, the same recipe without constraint, both sides new.

    Returns:
        ``None`` where the update gain is.
    """
    gain = update_gain(new_old, old_old, best)
    return None if gain is None else _logistic(gain)


def advbct_both(update: float, compatibility: float) -> float:
    """P_1 of one test set, the harmonic mean of its P_up and P_comp (AdvBCT, Pan et al. 2023); ½ is neutral."""
    return 2 * update * compatibility / (update + compatibility)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def area_under_refresh_curve(shares: Sequence[float], values: Sequence[float]) -> float:
    """Mean of a metric over the share of the gallery that was refreshed, by trapezoids (Jaeckle et al. 2023).

    Args:
        shares: increasing, from 0 to 1.
        values: of the metric, one for each share.

    Raises:
        InputError: shares that do not rise from 0 to 1, or not one value for each.
    """
    points = np.asarray(shares, dtype=float)
    if (
        len(points) < 2
        or len(points) != len(values)
        or points[0] != 0
        or points[-1] != 1
        or (np.diff(points) <= 0).any()
    ):
        raise InputError(
            f"A refresh curve needs shares that rise from 0 to 1 and a value for each: got {list(shares)}."
        )
    return float(np.trapezoid(values, points))


def _square(matrix: Matrix) -> Matrix:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise InputError(f"A matrix of T tasks or generations is (T, T), and this one is {matrix.shape}.")
    return matrix

"""Refresh curves: both ends are known, and what lies between is one ranking over both kinds of vectors."""

import pytest
import torch
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate
from evergallery.retrieval.refresh_curve import farthest_from_class_mean_first, random_order, refresh_curve


def vectors(seed: int, rows: int = 40, width: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


LABELS = torch.arange(40) % 8


def test_begins_at_the_cross_test_and_ends_at_the_self_test() -> None:
    query, old, new = vectors(0), vectors(1), vectors(0)
    itself = Exclusion(torch.arange(40))
    curve = refresh_curve(query, LABELS, old, new, LABELS, order=random_order(40, 0), exclusion=itself)
    assert len(curve) == 5
    assert curve[0] == evaluate(query, LABELS, old, LABELS, exclusion=itself)
    assert curve[-1] == evaluate(query, LABELS, new, LABELS, exclusion=itself)


def test_the_order_says_which_items_are_new() -> None:
    query, old, new = vectors(0), vectors(1), vectors(2)
    order = random_order(40, 3)
    [half] = refresh_curve(query, LABELS, old, new, LABELS, order=order, shares=[0.5])
    mixed = torch.stack([new[i] if i in order[:20].tolist() else old[i] for i in range(40)])
    assert half == evaluate(query, LABELS, mixed, LABELS)
    before = old.clone()
    refresh_curve(query, LABELS, old, new, LABELS, order=order)
    assert torch.equal(old, before)


def test_scores_of_another_scale_make_a_dip() -> None:
    # Both galleries alone are perfect. Among old vectors, whose scores are lower, a new one of another class wins.
    classes = torch.arange(4)
    query = torch.eye(8)[:4]
    old = F.normalize(torch.eye(8)[:4] + 3 * torch.eye(8)[4:])
    new = F.normalize(torch.eye(8)[:4] + 0.9 * torch.eye(8)[:4].roll(1, 0))
    curve = refresh_curve(query, classes, old, new, classes, order=torch.arange(4), shares=[0, 0.5, 1])
    assert [point.recall[1] for point in curve] == [1.0, 0.75, 1.0]


def test_orders() -> None:
    assert torch.equal(random_order(30, 1), random_order(30, 1))
    assert not torch.equal(random_order(30, 1), random_order(30, 2))
    gallery = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.2, 1.0], [0.0, -1.0], [0.1, -1.0]]))
    labels = torch.tensor([7, 7, 7, 3, 3])
    assert farthest_from_class_mean_first(gallery, labels)[0] == 2


def test_refuses_other_widths_and_no_permutation() -> None:
    with pytest.raises(InputError, match="same items and the same width"):
        refresh_curve(vectors(0), LABELS, vectors(1), vectors(2, width=5), LABELS, order=torch.arange(40))
    with pytest.raises(InputError, match="each of the 40 items once"):
        refresh_curve(
            vectors(0), LABELS, vectors(1), vectors(2), LABELS, order=torch.zeros(40, dtype=torch.int64)
        )  # fmt: skip

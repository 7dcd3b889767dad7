"""Which cells the matrix has, and flips worked by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.retrieval.compatibility import (
    compatibility_matrix,
    negative_flip_rate,
    neighbour_agreement,
    positive_flip_rate,
)
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate


def generations(count: int, rows: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(rows)
    return [F.normalize(torch.randn(rows, 6, generator=draw)) for _ in range(count)]


def test_every_newer_query_meets_every_older_gallery() -> None:
    queries, gallery = generations(3, 20), generations(3, 31)
    query_labels, gallery_labels = torch.arange(20) % 4, torch.arange(31) % 4
    exclusion = Exclusion(torch.arange(20))
    matrix = compatibility_matrix(queries, query_labels, gallery, gallery_labels, ks=(2,), exclusion=exclusion)
    assert [len(row) for row in matrix] == [1, 2, 3]
    for q, row in enumerate(matrix):
        for g, metrics in enumerate(row):
            expected = evaluate(queries[q], query_labels, gallery[g], gallery_labels, ks=(2,), exclusion=exclusion)
            assert metrics == expected
            assert torch.equal(metrics.hits_at_1, expected.hits_at_1)
    assert matrix[2][0] != matrix[2][2]


def test_generations_must_come_in_pairs_of_one_width() -> None:
    labels = torch.arange(4)
    with pytest.raises(InputError, match="queries of 2 generations and galleries of 1"):
        compatibility_matrix([torch.eye(4)] * 2, labels, [torch.eye(4)], labels)
    with pytest.raises(InputError, match="Queries have 5 dimensions and the gallery 4"):
        compatibility_matrix([torch.eye(4), torch.eye(5)[:4]], labels, [torch.eye(4), torch.eye(5)[:4]], labels)


def test_flips_by_hand() -> None:
    old = torch.tensor([True, True, True, False, False])
    new = torch.tensor([True, False, False, True, False])
    assert negative_flip_rate(old, new) == 0.4
    assert positive_flip_rate(old, new) == 0.2


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_the_difference_of_flips_is_the_gain(pairs: list[tuple[bool, bool]]) -> None:
    old, new = torch.tensor(pairs).T
    gain = new.double().mean() - old.double().mean()
    assert positive_flip_rate(old, new) - negative_flip_rate(old, new) == pytest.approx(float(gain), abs=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (torch.tensor([True]), torch.tensor([True, False]), "1 and 2 queries"),
        (torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.bool), "0 and 0 queries"),
        (torch.tensor([1, 0]), torch.tensor([True, False]), "torch.int64"),
        (torch.tensor([[True]]), torch.tensor([[True]]), r"shape \(1, 1\)"),
    ],
)
def test_outcomes_that_do_not_fit(old: Tensor, new: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        negative_flip_rate(old, new)


class TestNeighbourAgreement:
    def test_counts_images_that_keep_their_neighbour(self) -> None:
        generator = torch.Generator().manual_seed(3)
        old = F.normalize(torch.randn(60, 8, generator=generator))
        new = F.normalize(old + 0.4 * torch.randn(60, 8, generator=generator))
        cosines = [queries @ old.T - 2 * torch.eye(60) for queries in (old, new)]
        expected = float((cosines[0].argmax(1) == cosines[1].argmax(1)).float().mean())
        assert 0.2 < expected < 0.9
        assert neighbour_agreement(new, old) == pytest.approx(expected)

    def test_what_did_not_move_agrees(self) -> None:
        old = F.normalize(torch.randn(20, 4, generator=torch.Generator().manual_seed(1)))
        assert neighbour_agreement(old, old) == 1

    def test_two_images_have_no_other_neighbour_to_prefer(self) -> None:
        assert neighbour_agreement(torch.eye(2), torch.eye(2).flip(0)) == 1

"""Edges of the search: types, empty sides, exclusions that do not fit, and how much memory blocks take."""

import pytest
import torch
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion, _blocks, joint_numbers, nearest


def unit(rows: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_are_float32_or_float64(dtype: torch.dtype) -> None:
    queries, gallery = unit(5).to(dtype), unit(40, seed=1).to(dtype)
    exact = nearest(queries.double(), gallery.double(), 7)
    assert exact.scores.dtype == torch.float64
    for limit in (1, 3000, 2**28):
        found = nearest(queries, gallery, 7, memory_limit=limit)
        assert found.scores.dtype == torch.float32
        torch.testing.assert_close(found.scores.double(), exact.scores, atol=1e-6, rtol=0)


def test_copies_of_one_item_come_in_gallery_order_in_every_row() -> None:
    # Of signs, whose products are exact wherever in a block they are computed.
    gallery = unit(10).sign().float().repeat(30, 1)
    found = nearest(gallery[:10], gallery, 12)
    assert found.indices.tolist() == [[i + 10 * copy for copy in range(12)] for i in range(10)]


def test_all_equal_and_partly_excluded() -> None:
    ones = torch.ones(6, 2)
    found = nearest(ones, ones, 3, exclusion=Exclusion(torch.arange(6)))
    assert found.indices.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_is_excluded_leaves_a_hole(k: int) -> None:
    label = torch.zeros(3, dtype=torch.int64)
    exclusion = Exclusion(None, label, label, label, torch.tensor([0, 0, 1]))
    for limit in (1, 2**28):
        found = nearest(torch.eye(3), torch.eye(3), k, exclusion=exclusion, memory_limit=limit)
        assert found.indices.tolist() == [[2, -1, -1][:k]] * 3
        assert found.scores[:, 1:].eq(-torch.inf).all()


def test_empty_sides() -> None:
    found = nearest(torch.eye(3), torch.zeros(0, 3), 2)
    assert found.indices.tolist() == [[-1, -1]] * 3
    assert found.scores.eq(-torch.inf).all()
    assert nearest(torch.zeros(0, 3), torch.eye(3), 2).indices.shape == (0, 2)


def test_large_finite_values_are_no_error_and_no_gradient_is_kept() -> None:
    queries = torch.full((1, 4), 6e4, dtype=torch.float16)
    assert nearest(queries, torch.eye(4), 1).indices.item() == 0
    assert not nearest(torch.eye(2, requires_grad=True), torch.eye(2), 1).scores.requires_grad


@pytest.mark.parametrize("k", [1, 10, 1000, 60_000])
@pytest.mark.parametrize("limit", [2**24, 2**28])
def test_blocks_respect_the_limit_on_both_sides(k: int, limit: int) -> None:
    queries, gallery = torch.empty(60_000, 64, device="meta"), torch.empty(500_000, 64, device="meta")
    rows, columns = _blocks(queries, gallery, k, limit, torch.float32)
    assert rows * columns * 4 <= limit
    assert rows * k * 12 <= limit
    assert columns < len(gallery)
    assert rows < len(queries)


def test_numbers_are_equal_exactly_where_all_values_are() -> None:
    a = torch.tensor([2**62, 5, 5]), torch.tensor([5, 2**62, 2**62])
    b = torch.tensor([0, -(2**62), 1]), torch.tensor([1, 0, 1])
    queries, gallery = joint_numbers(a, b)
    assert (queries[:, None] == gallery).tolist() == [[False, True, False], [False] * 3, [True, False, False]]
    assert max(queries.max(), gallery.max()) < 6


@pytest.mark.parametrize(
    ("exclusion", "message"),
    [
        (Exclusion(torch.arange(2)), r"itself of the exclusion has shape \(2,\): it must be \(3,\)"),
        (Exclusion(torch.tensor([0, 1, 3])), "holds 3: it must be an index of the 3 gallery items"),
        (Exclusion(torch.tensor([0, -2, 1])), "holds -2"),
        (Exclusion(query_labels=torch.arange(3)), "lacks gallery_labels, query_cameras, gallery_cameras"),
        (Exclusion(None, torch.arange(3), torch.arange(4), torch.arange(3), torch.arange(3)), "gallery_labels of"),
    ],
)
def test_exclusions_that_do_not_fit(exclusion: Exclusion, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest(torch.eye(3), torch.eye(3), 1, exclusion=exclusion)

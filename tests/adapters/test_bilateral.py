"""Comparing in both spaces: the score by its formula, hubs that lose, stored vectors that come later, few pairs, other widths."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters import Adapter, BilateralAdapter, fit_bilateral, fit_procrustes
from evergallery.adapters.bilateral import hubness
from evergallery.adapters.held_out import reciprocal_ranks


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def spaces(count: int, width: int, other: int, seed: int = 0, disturbance: float = 0.7) -> tuple[Tensor, Tensor]:
    """One content seen by two models that stretch, shift and disturb it differently."""
    draw = torch.Generator().manual_seed(99)
    inner = torch.randn(16, width, generator=draw), torch.randn(16, other, generator=draw)
    shift = torch.randn(1, width, generator=draw), torch.randn(1, other, generator=draw)
    content = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    noise = [
        torch.randn(count, size, generator=torch.Generator().manual_seed(seed + 1 + place))
        for place, size in enumerate((width, other))
    ]
    first, second = (
        F.normalize(content @ weight + 2 * mean + disturbance * some)
        for weight, mean, some in zip(inner, shift, noise, strict=True)
    )
    return first, second


def rank(adapter: Adapter, queries: Tensor, stored: Tensor) -> float:
    sides = adapter.query_side(queries), adapter.stored_side(stored)
    return reciprocal_ranks(*sides, torch.arange(len(queries))).mean().item()


def test_the_score_by_its_formula() -> None:
    new, old = spaces(60, 12, 9)
    adapter = fit_bilateral(new, old)
    assert isinstance(adapter, BilateralAdapter)
    queries, stored = spaces(7, 12, 9, seed=5)
    found = (adapter.query_side(queries) @ adapter.stored_side(stored).T).numpy()
    for q, query in enumerate(queries.numpy()):
        for g, vector in enumerate(stored.numpy()):
            a, b = query - adapter.query_mean.numpy(), vector - adapter.stored_mean.numpy()
            forward, reverse = a @ adapter.forward_weight.numpy(), b @ adapter.reverse_weight.numpy()
            unit = b / np.linalg.norm(b)
            hub = np.sort(adapter.bank.numpy() @ unit)[-11:-1].mean()
            expected = (
                forward @ b / np.linalg.norm(forward) / np.linalg.norm(b)
                - (hub - adapter.level.item()) / 2
                + a @ reverse / np.linalg.norm(a) / np.linalg.norm(reverse)
            ) / 2
            assert found[q, g] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("width", "other"), [(64, 64), (64, 40), (40, 64)])
def test_fewer_pairs_than_dimensions_and_other_widths(width: int, other: int) -> None:
    new, old = spaces(30, width, other, disturbance=3.5)
    queries, stored = spaces(300, width, other, seed=5, disturbance=3.5)
    turned = fit_procrustes(new, old)
    assert rank(fit_bilateral(new, old), queries, stored) > rank(turned, queries, stored) + 0.05


def test_what_it_maps_to_lies_where_scores_are_high() -> None:
    new, old = spaces(200, 24, 20)
    adapter = fit_bilateral(new, old)
    queries, stored = spaces(400, 24, 20, seed=5)
    best = (adapter.query_side(queries) @ adapter.stored_side(stored).T).argmax(1)
    candidates = (adapter(queries) @ stored.T).topk(40, 1).indices
    assert (candidates == best[:, None]).any(1).double().mean() > 0.97


def test_each_stored_vector_by_itself_whatever_is_stored_beside_it() -> None:
    new, old = spaces(60, 12, 9)
    adapter = fit_bilateral(new, old)
    stored = spaces(20, 12, 9, seed=5)[1]
    alone = torch.cat([adapter.stored_side(row[None]) for row in stored])
    torch.testing.assert_close(alone, adapter.stored_side(stored))
    assert adapter.stored_side(stored[:0]).shape == (0, 9 + 1 + 12)


def test_a_hub_is_near_many_and_its_own_image_does_not_make_one() -> None:
    bank = F.normalize(rows(50, 6) + torch.tensor([2.0, 0, 0, 0, 0, 0]))
    hub, lone = F.normalize(bank.mean(0, keepdim=True)), -F.normalize(bank.mean(0, keepdim=True))
    assert hubness(hub, bank) > 0.9 > 0 > hubness(lone, bank)
    # The same vector counts as much with its own image in the bank as without it.
    torch.testing.assert_close(
        hubness(lone, torch.cat([bank, lone])), hubness(lone, torch.cat([bank, bank[:0]])), atol=0.05, rtol=0
    )
    assert hubness(hub, bank[:1]).shape == hubness(hub, bank[:2]).shape == (1,)


def test_two_pairs_are_enough_to_give_numbers() -> None:
    adapter = fit_bilateral(rows(2, 6), rows(2, 5, 1))
    assert (adapter.query_side(rows(3, 6)) @ adapter.stored_side(rows(4, 5)).T).isfinite().all()
    assert adapter(rows(3, 6)).isfinite().all()

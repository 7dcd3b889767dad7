"""The simplex of CoReS, the old head that BCT extends, and heads that grow."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from conftest import gradient_of
from evergallery.errors import InputError
from evergallery.methods.bct import PseudoOldHead
from evergallery.network import Head, HeadKind
from evergallery.network.heads import scores, simplex

KINDS: tuple[HeadKind, ...] = get_args(HeadKind)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


class TestSimplex:
    def test_of_two_dimensions_is_the_regular_triangle(self) -> None:
        corners = simplex(2)
        sides = torch.linalg.vector_norm(corners - corners.roll(1, 0), dim=1)
        torch.testing.assert_close(sides, torch.full((3,), 3**0.5))

    @given(st.integers(1, 130))
    @settings(max_examples=25, deadline=None)
    def test_corners_are_unit_equally_far_apart_and_centred(self, width: int) -> None:
        corners = simplex(width).double()
        assert corners.shape == (width + 1, width)
        expected = torch.full((width + 1, width + 1), -1 / width, dtype=torch.float64).fill_diagonal_(1)
        torch.testing.assert_close(corners @ corners.T, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(corners.sum(0), torch.zeros(width, dtype=torch.float64), atol=1e-5, rtol=0)

    @given(st.integers(2, 40))
    @settings(max_examples=15, deadline=None)
    def test_equals_the_published_construction(self, width: int) -> None:
        rows = np.vstack([np.eye(width), np.full(width, (1 - np.sqrt(1 + width)) / width)])
        rows = rows - rows.mean(0)
        np.testing.assert_allclose(
            simplex(width).numpy(), rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-7
        )

    def test_is_no_parameter_and_gives_features_a_gradient(self) -> None:
        head = Head(6, 3, "simplex")
        assert not list(head.parameters())
        assert torch.equal(head.state_dict()["weight"], simplex(6)), "a generation keeps it"
        features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
        F.cross_entropy(head(features), torch.tensor([0, 1, 2, 0])).backward()
        assert not head.weight.requires_grad
        assert gradient_of(features).abs().sum() > 0

    def test_scores_all_corners_by_inner_products_of_raw_features(self) -> None:
        head, features = Head(6, 2, "simplex"), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        assert head(features).shape == (4, 7)
        torch.testing.assert_close(head(3 * features), 3 * features @ simplex(6).T)

    def test_grows_without_moving_until_it_is_full(self) -> None:
        head = Head(6, 0, "simplex").grow(4, seed=0)
        grown = head.grow(7, seed=1)
        assert (head.classes, grown.classes) == (4, 7)
        assert torch.equal(grown.weight, head.weight)
        with pytest.raises(
            InputError, match=r"simplex in 6 dimensions has corners for 7 classes and not for 8.*--dim 7"
        ):
            grown.grow(8, seed=2)


class TestGrowth:
    @EVERY_KIND
    def test_scores_of_old_classes_stay(self, kind: HeadKind) -> None:
        features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
        head = Head(8, 3, kind, scale=9.0)
        grown = head.grow(6, seed=1)
        assert grown.classes == 6
        assert torch.equal(grown.weight[: len(head.weight)], head.weight)
        assert torch.equal(head.grow(3, seed=1).weight, head.weight)
        # Some processors round a product by its shape.
        torch.testing.assert_close(grown(features)[:, :3], head(features)[:, :3])

    @EVERY_KIND
    def test_the_grown_head_is_another_one(self, kind: HeadKind) -> None:
        head = Head(8, 3, kind)
        before = head.weight.detach().clone()
        with torch.no_grad():
            head.grow(5, seed=1).weight.zero_()
        assert torch.equal(head.weight, before)

    @EVERY_KIND
    def test_learns_unless_it_is_the_simplex(self, kind: HeadKind) -> None:
        # Growing copies without a graph, and what comes out must still be trained.
        grown = Head(8, 3, kind).grow(5, seed=1)
        assert [parameter.requires_grad for parameter in grown.parameters()] == ([] if kind == "simplex" else [True])

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "simplex"])
    def test_new_rows_are_small_different_and_follow_the_seed_alone(self, kind: HeadKind) -> None:
        torch.manual_seed(1)
        head = Head(8, 3, kind)
        first = head.grow(40, seed=4).weight[3:]
        torch.manual_seed(2)
        assert torch.equal(head.grow(40, seed=4).weight[3:], first)
        assert first.abs().max() <= 8**-0.5
        assert first.unique(dim=0).shape == (37, 8)


class TestPseudoOldHead:
    """Two old classes, two new ones, of which the last has no image."""

    MEANS = torch.tensor([[9.0, 9], [9, 9], [3, 4], [0, 0]])
    PRESENT = torch.tensor([True, False, True, False])

    def head(self, kind: HeadKind) -> Head:
        head = Head(2, 2, kind, scale=10.0)
        head.weight.data = torch.tensor([[1.0, 0], [0, 2]])
        return head

    def test_keeps_the_learned_rows_and_adds_means_of_the_new_classes(self) -> None:
        # Old classes keep their rows whether or not their images are among the new ones.
        pseudo = PseudoOldHead(self.head("linear"), self.MEANS, self.PRESENT)
        assert pseudo.rows.tolist() == [[1, 0], [0, 2], [3, 4], [0, 0]]
        assert pseudo.exists.tolist() == [True, True, True, False]
        assert pseudo(torch.tensor([[1.0, 1]])).tolist() == [[1, 2, 7, -torch.inf]]

    @pytest.mark.parametrize(
        ("kind", "logits"), [("unit-rows", [5.0, 0, 3]), ("cosine", [10.0, 0, 6]), ("linear", [5.0, 0, 15])]
    )
    def test_scores_means_as_the_head_scores_its_own_rows(self, kind: HeadKind, logits: list[float]) -> None:
        found = PseudoOldHead(self.head(kind), self.MEANS, self.PRESENT)(torch.tensor([[5.0, 0]]))
        assert found[0, :3].tolist() == pytest.approx(logits)

    @EVERY_KIND
    def test_scores_old_classes_as_the_old_head_does(self, kind: HeadKind) -> None:
        head, features = Head(6, 3, kind), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        pseudo = PseudoOldHead(head, torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), torch.ones(5) > 0)
        assert pseudo(features).shape == (4, 5)
        torch.testing.assert_close(pseudo(features)[:, :3], head(features)[:, :3])

    def test_cuts_or_pads_features_of_another_width(self) -> None:
        pseudo = PseudoOldHead(self.head("linear"), self.MEANS, self.PRESENT)
        assert pseudo(torch.tensor([[1.0, 1, 50]]))[0, :3].tolist() == [1, 2, 7]
        assert pseudo(torch.tensor([[1.0]]))[0, :3].tolist() == [1, 0, 3]

    def test_is_frozen_and_apart_from_the_head(self) -> None:
        head = self.head("cosine")
        pseudo = PseudoOldHead(head, self.MEANS, self.PRESENT)
        assert not list(pseudo.parameters())
        head.weight.data.zero_()
        assert pseudo.rows[0].tolist() == [1, 0]
        features = torch.tensor([[1.0, 3]], requires_grad=True)
        F.cross_entropy(pseudo(features), torch.tensor([2])).backward()
        assert head.weight.grad is None
        assert torch.isfinite(gradient_of(features)).all()
        assert gradient_of(features).abs().sum() > 0


def test_scores_of_a_scale() -> None:
    rows, features = torch.tensor([[0.0, 2]]), torch.tensor([[0.0, 5], [3, 4]])
    torch.testing.assert_close(scores(features, rows, "cosine", 30.0), torch.tensor([[30.0], [24]]))

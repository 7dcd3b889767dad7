"""The choice of an adapter finds what made the data, and says so where a map knows its pairs better than the spaces."""

from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters import (
    ADAPTERS,
    Adapter,
    Direction,
    fit_linear,
    fit_mlp,
    fit_procrustes,
    select_adapter,
    selection,
)
from evergallery.adapters.selection import (
    AdapterTrial,
    MapJudgement,
    choose,
    default_fits,
    judge,
    microseconds_for_one,
    split_by_class,
    together,
)
from evergallery.errors import InputError

PERFECT = MapJudgement(1.0, 1.0, 1.0, 100)
CLOSED: dict[str, Any] = {"procrustes": fit_procrustes, "linear": fit_linear}


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def rotation(width: int, seed: int = 5) -> Tensor:
    made: Tensor = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed))).Q
    return made


def clustered(classes: int, each: int, width: int, noise: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows around a centre for each class, and labels."""
    labels = torch.arange(classes).repeat(each)
    return F.normalize(rows(classes, width, seed)[labels] + noise * rows(len(labels), width, seed + 1)), labels


class Table(Adapter):
    """Knows the targets of its pairs by heart, or of its pairs' classes, and nothing else: the worst of overfitting."""

    kind = "table"

    def __init__(self, source: Tensor, target: Tensor, least: float) -> None:
        super().__init__(source=source, target=target)
        self.least = least

    @property
    def source_dimension(self) -> int:
        return self.get_buffer("source").shape[1]

    @property
    def dimension(self) -> int:
        return self.get_buffer("target").shape[1]

    def map(self, embeddings: Tensor) -> Tensor:
        cosine, at = (embeddings @ self.get_buffer("source").T).max(1)
        known = (cosine >= self.least)[:, None]
        return torch.where(known, self.get_buffer("target")[at], -torch.ones(self.dimension))


class TestChoice:
    @pytest.mark.parametrize("noise", [0.0, 0.5])
    def test_a_rotation_is_found_by_procrustes(self, noise: float) -> None:
        source = rows(100, 32)
        target = F.normalize(source @ rotation(32) + noise * rows(100, 32, 1))
        found = select_adapter(source, target, fits=CLOSED)
        assert found.name == found.adapter.kind == "procrustes"
        assert found.measure == "partner recall@1"
        assert found.target_recall == 1.0

    def test_a_stretched_space_by_the_linear_map(self) -> None:
        # The source is the stretched one: a rotation brings its neighbours along.
        target, labels = clustered(40, 20, 8, noise=0.5)
        source = F.normalize(target @ rotation(8) @ torch.diag(torch.linspace(0.3, 2.0, 8)) @ rotation(8, 6))
        for seed in range(3):
            found = select_adapter(source, target, labels, fits=CLOSED, seed=seed)
            assert found.name == "linear"
            assert found.measure == "recall@1"
            assert found.trials[0].worse.recall + 0.05 < found.chosen.worse.recall <= found.target_recall + 0.05

    def test_a_bent_space_by_the_mlp(self) -> None:
        source = rows(1_000, 6)
        found = select_adapter(
            source,
            F.normalize(source.abs() + 0.2 * source),
            fits={**CLOSED, "mlp": partial(fit_mlp, hidden=64, learning_rate=1e-2)},
        )
        assert found.name == "mlp"
        assert found.warning is None

    def test_is_fitted_to_all_pairs(self) -> None:
        source, target = rows(60, 8), rows(60, 8, 1)
        found = select_adapter(source, target, fits={"procrustes": fit_procrustes})
        assert torch.equal(found.adapter(source), fit_procrustes(source, target)(source))
        assert found.pairs == 60

    def test_the_rank_of_the_partner_decides_and_the_worse_of_both_counts(self) -> None:
        # Neither the highest recall nor the highest cosine.
        best = AdapterTrial("best", PERFECT, MapJudgement(0.7, 0.9, 0.6, 100), None, None, 1.0, 1.0)
        near = AdapterTrial("near", PERFECT, MapJudgement(0.8, 0.8, 0.9, 100), None, None, 1.0, 1.0)
        worse = AdapterTrial("worse", PERFECT, PERFECT, MapJudgement(1.0, 0.5, 1.0, 100), PERFECT, 1.0, 1.0)
        for trials in ([best, near, worse], [worse, near, best]):
            assert choose(trials).name == "best"

    def test_a_map_that_shrinks_everything_together_is_not_taken(self) -> None:
        source = rows(300, 16)
        target = F.normalize(source @ rotation(16) + 3 * rows(1, 16, 7))
        fits: dict[str, Callable[[Tensor, Tensor], Adapter]] = {
            "shrunk": partial(fit_linear, ridge=1e3), "turned": fit_procrustes,
        }  # fmt: skip
        found = select_adapter(source, target, fits=fits)
        shrunk, turned = found.trials
        assert shrunk.out_of_sample.cosine > turned.out_of_sample.cosine
        assert found.name == "turned"

    def test_stored_vectors_are_judged_by_the_queries_that_look_for_them(self) -> None:
        # Half of the stored vectors are mapped to one point: every query of the other half still finds its own, and a
        # stored vector of the half that is lost would find many.
        source = rows(200, 8)

        class Half(Table):
            def map(self, embeddings: Tensor) -> Tensor:
                return torch.where(embeddings[:, :1] > 0, embeddings, torch.ones(8))

        found = select_adapter(source, source, fits={"half": lambda old, new: Half(old, new, 0)}, direction="gallery")
        kept = (source[:, 0] > 0).double().mean().item()
        assert found.chosen.out_of_sample.recall == pytest.approx(kept, abs=0.1)

    def test_the_first_of_equals(self) -> None:
        trials = [AdapterTrial(name, PERFECT, PERFECT, None, None, 1.0, 1.0) for name in ("one", "other")]
        assert [choose(trials).name, choose(trials[::-1]).name] == ["one", "other"]

    def test_the_seed_is_all_that_decides(self) -> None:
        source, labels = clustered(8, 10, 8)
        target = F.normalize(source @ rotation(8) + 0.5 * rows(80, 8, 3))
        torch.manual_seed(1)
        first = select_adapter(source, target, labels, fits=CLOSED)
        torch.manual_seed(2)
        other = select_adapter(source, target, labels, fits=CLOSED)
        third = select_adapter(source, target, labels, fits=CLOSED, seed=1)
        figures = [
            [(trial.in_sample, trial.out_of_sample, trial.unseen_classes) for trial in found.trials]
            for found in (first, other, third)
        ]
        assert figures[0] == figures[1] != figures[2]

    def test_every_kind_by_default_and_a_table_for_json(self) -> None:
        source, labels = clustered(6, 10, 4)
        found = select_adapter(source, source, labels, direction="gallery")
        assert [trial.name for trial in found.trials] == list(default_fits("gallery", 4, 4))
        table = found.to_dict()
        assert table["chosen"] == found.name
        assert set(table["trials"][0]) == {
            "name", "in_sample", "out_of_sample", "unseen_classes", "seen_classes", "seconds", "microseconds", "warning",
        }  # fmt: skip
        assert all(trial.microseconds > 0 and trial.seconds > 0 for trial in found.trials)

    def test_kinds_that_cannot_are_not_tried(self) -> None:
        unasked = {name for name, kind in ADAPTERS.items() if kind.tried}
        assert unasked >= {"procrustes", "linear", "bilateral", "mlp", "drift"}
        assert "lambda-orthogonal" not in unasked, "it is slow"
        cannot: dict[tuple[Direction, int], set[str]] = {
            ("query", 8): {"drift"}, ("gallery", 8): {"bilateral"}, ("gallery", 6): {"bilateral", "drift"},
        }  # fmt: skip
        for (direction, width), unfit in cannot.items():
            found = set(default_fits(direction, 8, width))
            assert found == {name for name in unasked if ADAPTERS[name].serves(direction, 8, width)}
            assert not found & unfit

    def test_parameters_are_the_callers(self) -> None:
        source = rows(60, 8)
        found = select_adapter(source, source, fits={"rank 3": partial(fit_linear, rank=3)})
        assert found.name == "rank 3"
        assert found.adapter.get_buffer("second").shape == (3, 8)

    def test_few_pairs_are_all_held_out_once_and_many_no_more_than_needed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, labels = clustered(10, 20, 8)
        for known, expected in ((None, (40, 200)), (labels, (40, 200, 40, 40))):
            trial = select_adapter(source, source, known, fits=CLOSED).chosen
            found = (trial.in_sample, trial.out_of_sample, trial.unseen_classes, trial.seen_classes)
            assert tuple(judgement.queries for judgement in found if judgement) == expected
        monkeypatch.setattr(selection, "ENOUGH_JUDGED", 41)
        assert select_adapter(source, source, fits=CLOSED).chosen.out_of_sample.queries == 80
        monkeypatch.setattr(selection, "MOST_QUERIES", 7)
        trial = select_adapter(source, source, labels, fits=CLOSED).chosen
        found = (trial.in_sample, trial.out_of_sample, trial.unseen_classes, trial.seen_classes)
        assert [judgement.queries for judgement in found if judgement] == [7, 14, 7, 7]


class TestOverfitting:
    def test_to_images(self) -> None:
        source = rows(200, 8)
        fits = {"procrustes": fit_procrustes, "table": lambda old, new: Table(old, new, 0.999)}
        found = select_adapter(source, source @ rotation(8), fits=fits)
        assert found.name == "procrustes"
        assert found.warning is None
        table = found.trials[1]
        assert table.in_sample.recall == 1.0
        assert table.out_of_sample.recall < 0.1
        assert table.unseen_classes is None
        assert table.warning is not None
        assert "right for 100.0% of images that it was fitted to" in table.warning

    def test_to_classes_shows_only_on_classes_that_were_left_out(self) -> None:
        source, labels = clustered(10, 20, 16, noise=0.4)
        fits = {"table": lambda old, new: Table(old, new, 0.75)}
        found = select_adapter(source, source @ rotation(16), labels, fits=fits)
        trial = found.chosen
        assert trial.unseen_classes is not None
        assert trial.seen_classes is not None
        assert trial.out_of_sample.recall > 0.95
        assert trial.seen_classes.recall > 0.95
        assert trial.unseen_classes.recall < 0.5
        assert trial.worse == trial.unseen_classes
        assert found.warning is not None
        assert "where it has not: fit it to images of more classes" in found.warning

    def test_classes_left_out_decide_the_choice(self) -> None:
        source, labels = clustered(10, 20, 16, noise=0.4)
        target = F.normalize(source @ rotation(16) + 0.2 * rows(200, 16, 9))
        fits: dict[str, Callable[[Tensor, Tensor], Adapter]] = {
            "table": lambda old, new: Table(old, new, 0.75), "procrustes": fit_procrustes,
        }  # fmt: skip
        found = select_adapter(source, target, labels, fits=fits)
        assert found.name == "procrustes"
        assert select_adapter(source, target, labels, fits={"table": fits["table"]}).chosen.out_of_sample.recall > 0.9

    @pytest.mark.parametrize(
        ("out", "queries", "warns"), [(0.96, 10_000, False), (0.9, 10_000, True), (0.9, 20, False), (0.5, 20, True)]
    )
    def test_a_gap_counts_where_it_is_large_and_no_accident(self, out: float, queries: int, warns: bool) -> None:
        seen, unseen = MapJudgement(1.0, 1.0, 1.0, queries), MapJudgement(out, 1.0, 1.0, queries)
        by_image = AdapterTrial("linear", seen, unseen, None, None, 1.0, 1.0)
        by_class = AdapterTrial("linear", seen, seen, unseen, seen, 1.0, 1.0)
        assert [trial.warning is not None for trial in (by_image, by_class)] == [warns, warns]


class TestJudgement:
    def test_partner_by_hand(self) -> None:
        stored = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]]))
        queries = F.normalize(torch.tensor([[1.0, 0.1], [0.7, 0.75], [-1.0, 0.0]]))
        # The second is nearest to row 3, then to its own.
        found = judge(queries, stored, torch.arange(3), None, cosine=0.5)
        assert astuple(found) == pytest.approx((2 / 3, 2.5 / 3, 0.5, 3))
        assert judge(queries, stored, torch.tensor([0, 3, 2]), None).reciprocal_rank == 1.0

    def test_labels_by_hand(self) -> None:
        stored = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9], [-1.0, 0.0]]))
        labels = torch.tensor([0, 0, 0, 1, 2])
        # Itself excluded: row 0 finds row 2, right; row 1 finds row 3, wrong; 3 and 4 have nothing to find.
        found = judge(stored, stored, torch.arange(5), labels)
        assert [found.recall, found.queries, found.reciprocal_rank] == pytest.approx([2 / 3, 3, 1.0])
        assert judge(stored[[4]], stored, torch.tensor([4]), labels).recall == 0.0

    def test_equals_loops_in_numpy(self) -> None:
        stored, labels = clustered(6, 5, 4, noise=1.0)
        queries = F.normalize(stored + 0.5 * rows(30, 4, 7))
        at = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:12]
        hits, ranks = [], []
        for row in at.tolist():
            scores = stored.double().numpy() @ queries[row].double().numpy()
            ranks.append(1 / (1 + (scores > scores[row]).sum()))
            scores[row] = -np.inf
            hits.append(labels[int(np.argmax(scores))] == labels[row])
        found = judge(queries[at], stored, at, labels)
        assert found.recall == pytest.approx(np.mean(hits))
        assert found.reciprocal_rank == pytest.approx(np.mean(ranks), abs=1e-6)

    def test_together_by_numbers_of_queries(self) -> None:
        found = together([MapJudgement(1.0, 0.8, 0.6, 30), MapJudgement(0.0, 0.4, 0.2, 10)])
        assert astuple(found) == pytest.approx((0.75, 0.7, 0.5, 40))


class TestSplits:
    def test_by_class_no_class_on_both_sides(self) -> None:
        labels = torch.tensor([7, -3, 5, 5, 7, 9, 11, 11, -3, 20]).repeat(3)
        split = split_by_class(labels, 0.3, torch.Generator().manual_seed(0))
        assert split is not None
        fitted, held_out = split
        assert sorted([*fitted.tolist(), *held_out.tolist()]) == list(range(30))
        assert not set(labels[fitted].tolist()) & set(labels[held_out].tolist())
        assert len(set(labels[held_out].tolist())) == 2

    def test_few_classes_are_not_split(self) -> None:
        assert split_by_class(torch.arange(4).repeat(10), 0.2, torch.Generator()) is None
        source = rows(40, 4)
        found = select_adapter(source, source, torch.arange(4).repeat(10), fits=CLOSED)
        assert found.measure == "recall@1"
        assert found.chosen.unseen_classes is None

    def test_labels_that_never_repeat_are_as_good_as_none(self) -> None:
        source = rows(40, 4)
        found = select_adapter(source, source, torch.arange(40), fits=CLOSED)
        assert found.measure == "partner recall@1"
        assert found.chosen.worse.recall == 1.0


class TestRefusals:
    def test_too_few_pairs(self) -> None:
        with pytest.raises(InputError, match="needs at least 20 pairs.* and got 19"):
            select_adapter(rows(19, 4), rows(19, 4))

    def test_unequal_lengths_and_what_is_not_finite(self) -> None:
        with pytest.raises(InputError, match="in the same order"):
            select_adapter(rows(30, 4), rows(31, 4))
        broken = rows(30, 4)
        broken[4, 0] = float("nan")
        with pytest.raises(InputError, match="Row 4 of the target embeddings is not finite"):
            select_adapter(rows(30, 4), broken)

    def test_labels_and_share(self) -> None:
        with pytest.raises(InputError, match=r"30 pairs and labels of shape \(29,\)"):
            select_adapter(rows(30, 4), rows(30, 4), torch.arange(29))
        for share in (0.0, 0.6):
            with pytest.raises(InputError, match="share of classes held out is .*at most 0.5"):
                select_adapter(rows(30, 4), rows(30, 4), held_out=share)


def test_the_time_of_one_vector_ends_in_time() -> None:
    adapter = fit_procrustes(rows(50, 8), rows(50, 8, 1))
    assert 0 < microseconds_for_one(adapter, rows(1, 8), calls=5) < 1e5
    assert microseconds_for_one(adapter, rows(1, 8), seconds=0) > 0

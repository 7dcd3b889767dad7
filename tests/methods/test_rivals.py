"""What makes each rival method the one that it is, beside the laws that hold for all of them."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_laws import WIDTH, a_step
from torch import Tensor
from torch.nn import functional as F

from conftest import coloured_images
from evergallery.data.tasks import at_most_per_class
from evergallery.errors import InputError
from evergallery.losses import elastic_boundary, metric_loss
from evergallery.memory import class_means, diffused_class_means, largest_distances
from evergallery.methods import (
    BCT,
    CL2R,
    L2,
    LCE,
    METHODS,
    MMD,
    RACT,
    AdvBCT,
    CoReS,
    FeatureDistillation,
    Finetune,
    Joint,
    LwF,
    Method,
    NewToOldContrastive,
    NewToOldTriplet,
    RelationDistillation,
    Replay,
    Step,
    Task,
    UniBCT,
)
from evergallery.methods.advbct import Adversary
from evergallery.methods.lce import Centres
from evergallery.methods.unibct import RefinedPrototypes
from evergallery.network import Head, HeadKind, Outputs
from evergallery.training import Settings
from evergallery.workspace import Workspace

Rows = list[list[float]]
LABELS = torch.tensor([4, 4, 5, 5, 6, 6, 0, 0])
"""Rows 0 to 3 are old classes, and a batch may hold images of them."""
OLD = 4
RIVALS: tuple[type[Method], ...] = (
    Finetune, Joint, LwF, FeatureDistillation, RelationDistillation, MMD, Replay,
    BCT, L2, NewToOldContrastive, NewToOldTriplet, RACT, LCE, UniBCT, AdvBCT, CoReS,
)  # fmt: skip


def double(method: Method, labels: Tensor = LABELS) -> tuple[Step, Tensor, Tensor]:
    return a_step(method, labels, torch.float64)


def outputs(features: Tensor, head: Head | None = None) -> Outputs:
    return Outputs(features, F.normalize(features), head(features) if head else features)


def with_new(step: Step, features: Tensor) -> Step:
    return replace(step, new=outputs(features, step.head))


def with_old(step: Step, features: Tensor) -> Step:
    return replace(step, old=outputs(features, step.old_head))


def gradient(value: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    return torch.zeros_like(at) if found is None else found


def rotation(width: int = WIDTH, seed: int = 3) -> Tensor:
    made: Tensor = torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(width, width)))).Q
    return made


def cross_entropy(logits: Tensor, labels: list[int]) -> float:
    """In NumPy."""
    x = logits.detach().numpy()
    return float(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(x, labels, strict=True)]))


class TestHyperParameters:
    @pytest.mark.parametrize(
        ("method", "name"),
        [(method, field.name) for method in RIVALS for field in fields(method) if field.name.endswith("weight")],
        ids=lambda value: value if isinstance(value, str) else value.name,
    )  # fmt: skip
    def test_a_weight_multiplies_its_term_and_no_other(self, method: type[Method], name: str) -> None:
        weight = getattr(method(), name)
        plain, doubled, without = (
            method(**{name: value}).losses(self.started(method)) for value in (weight, 2 * weight, 0.0)
        )
        own = [term for term in plain if doubled[term].item() != plain[term].item()]
        assert own
        for term in own:
            assert doubled[term].item() == pytest.approx(2 * plain[term].item()), term
            assert without[term].item() == 0

    @pytest.mark.parametrize(
        ("method", "name", "value"),
        [
            *((method, "triplet_margin", 0.5) for method in RIVALS if hasattr(method, "triplet_margin")),
            (LwF, "logit_temperature", 5.0),
            (MMD, "logit_temperature", 5.0),
            (MMD, "bandwidth", 2.0),
            (FeatureDistillation, "distance", "squared"),
            (RelationDistillation, "temperature", 1.0),
            (RelationDistillation, "loss", "binomial"),
            (NewToOldContrastive, "temperature", 0.5),
            (NewToOldContrastive, "hardest", 1),
            (NewToOldTriplet, "margin", 2.0),
            (NewToOldTriplet, "hardest", 1),
            (RACT, "temperature", 0.5),
            (RACT, "hardest", 1),
            (RACT, "form", "triplet"),
            (AdvBCT, "threshold", 0.1),
        ],
        ids=lambda value: getattr(value, "name", str(value)),
    )
    def test_an_option_is_heard_by_one_term(self, method: type[Method], name: str, value: Any) -> None:
        plain, changed = (way.losses(self.started(method)) for way in (method(), method(**{name: value})))
        assert sum(plain[term].item() != changed[term].item() for term in plain) == 1

    @pytest.mark.parametrize(("name", "value"), [("margin", 2.0), ("hardest", 1)])
    def test_the_triplet_form_of_ract_hears_its_own(self, name: str, value: Any) -> None:
        step = self.started(RACT)
        plain, changed = (way.losses(step) for way in (RACT(form="triplet"), RACT(form="triplet", **{name: value})))
        assert plain["new to old and new"].item() != changed["new to old and new"].item()

    def test_published_values(self) -> None:
        assert (LwF().logit_temperature, FeatureDistillation().weight, L2().weight) == (2, 5, 10)
        assert (RelationDistillation().weight, RelationDistillation().temperature) == (10, 4)
        assert (NewToOldContrastive().temperature, NewToOldTriplet().margin) == (0.05, 0.8)
        assert (RACT().form, RACT().temperature, RACT().hardest) == ("contrastive", 0.01, 10)
        assert (LCE().alignment_weight, LCE().boundary_weight) == (100, 1)
        assert (BCT().weight, UniBCT().weight, UniBCT().share, UniBCT().temperature) == (1, 1, 0.9, 0.05)
        assert (AdvBCT().adversarial_weight, AdvBCT().boundary_weight, AdvBCT().threshold) == (1, 1, 1)
        assert Replay().old_images_per_class == 20

    def started(self, method: type[Method]) -> Step:
        """A step at which every term is on."""
        step, _, _ = double(method(), torch.tensor([4, 4, 5, 5, 6, 6, 0, 0, 1, 2, 3, 4]))
        if isinstance(step.state, RefinedPrototypes):
            step.state.refreshes.fill_(1)
            step.state.rows.copy_(torch.eye(WIDTH))
        return step


class TestFinetuneAndJoint:
    @pytest.mark.parametrize("method", [Finetune(), Joint(), Replay()])
    def test_ask_the_parent_for_nothing(self, method: Method) -> None:
        step, new, _ = double(method)
        terms = method.losses(replace(step, old=None, old_head=None))
        assert terms["classification"].item() == pytest.approx(cross_entropy(step.new.logits, LABELS.tolist()))
        assert terms.keys() == {"classification", "triplet"}
        assert (gradient(terms["classification"], new).abs().sum(1) > 0).all(), "old classes are classified too"

    @pytest.mark.parametrize("kind", [Finetune, Joint])
    @pytest.mark.parametrize("loss", ["hard-mining", "binomial"])
    def test_learn_by_a_metric_loss_alone(self, kind: type[Finetune], loss: str) -> None:
        step, *_ = double(kind())
        terms = kind(loss=loss).losses(replace(step, old=None, old_head=None))
        assert terms.keys() == {"metric"}
        assert terms["metric"].item() == metric_loss(loss)(step.new.features, step.labels).item()
        # The card of whoever learns by a classifier is what it was.
        assert kind().parameters() == {"triplet_margin": 1.0}
        assert kind(loss=loss).parameters() == {"triplet_margin": 1.0, "loss": loss}
        assert (kind().trains_head, kind(loss=loss).trains_head) == (True, False)

    def test_only_joint_training_and_cores_begin_from_scratch(self) -> None:
        assert [method for method in RIVALS if not method.needs.parent_weights] == [Joint, CoReS]
        assert not any((Finetune.needs.parent, Finetune.needs.old_images))
        assert Joint.needs.old_images
        assert Joint().old_images() is None


class TestReplay:
    @given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 8), st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_remembers_each_old_class_and_never_more_of_it_than_its_memory(
        self, labels: list[int], most: int, seed: int
    ) -> None:
        images = Replay(old_images_per_class=most).old_images()
        assert images == most
        drawn = at_most_per_class(np.array(labels, dtype=np.int64), images, seed).tolist()
        assert len(set(drawn)) == len(drawn)
        kept = [labels[index] for index in drawn]
        for label in set(labels):
            assert kept.count(label) == min(most, labels.count(label))

    def test_mixes_its_few_old_images_into_the_batches_of_the_new_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches: list[list[int]] = []
        original = Replay.losses

        def spy(self: Replay, step: Step) -> dict[str, Tensor]:
            batches.append(step.labels.tolist())
            return original(self, step)

        monkeypatch.setattr(Replay, "losses", spy)
        settings = Settings(
            epochs=1, batch_size=10, precision="float32", device="cpu", padding=1, validation_fraction=0.0
        )
        first, second = coloured_images(2, each=8), coloured_images(2, each=8, first=2)
        with Workspace.create(tmp_path / "shop", backbone="resnet8", size=16) as shop:
            shop.learn(first, settings=settings)
            shop.learn(second, method=Replay(old_images_per_class=2), parent="v1", old_data=first, settings=settings)
        seen = [label for batch in batches for label in batch]
        assert [seen.count(label) for label in range(4)] == [2, 2, 8, 8]
        assert any(min(batch) < 2 <= max(batch) for batch in batches)


class TestShareOfOldImages:
    @pytest.mark.parametrize("share", [0.5, None])
    def test_half_of_each_batch_is_of_the_memory_where_it_is_asked_for(
        self, share: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches: list[int] = []
        original = CL2R.losses

        def spy(self: CL2R, step: Step) -> dict[str, Tensor]:
            batches.append(int((step.labels < 2).sum()))
            return original(self, step)

        monkeypatch.setattr(CL2R, "losses", spy)
        given = {
            "epochs": 1,
            "batch_size": 4,
            "precision": "float32",
            "device": "cpu",
            "padding": 1,
            "validation_fraction": 0.0,
        }
        first, second = coloured_images(2, each=8), coloured_images(2, each=8, first=2)
        method = CL2R(old_images_per_class=2, old_share=share)
        with Workspace.create(tmp_path / "shop", size=16, head="simplex", dim=7, neck="linear") as shop:
            shop.learn(first, settings=given)
            with monkeypatch.context() as patched:
                patched.setattr(CL2R, "losses", original)
                if share is not None:
                    with pytest.raises(
                        InputError, match="--images-per-class balances classes: leave one of the two out"
                    ):
                        shop.learn(
                            second,
                            method=method,
                            parent="v1",
                            old_data=first,
                            settings={**given, "images_per_class": 2},
                        )
            shop.learn(second, method=method, parent="v1", old_data=first, settings=given)
        if share is None:
            assert sum(batches) == 4
        else:
            # Sixteen new images by two, and the four old ones again and again.
            assert batches == [2] * 8


class TestLwF:
    @pytest.mark.parametrize("method", [LwF(), MMD()], ids=lambda method: method.name)
    def test_distils_the_logits_of_old_classes_and_no_others(self, method: Method) -> None:
        step, _, _ = double(method)
        logits = step.new.logits.detach().requires_grad_()
        terms = method.losses(replace(step, new=step.new._replace(logits=logits)))
        columns = gradient(terms["logit distillation"], logits).abs().sum(0) > 0
        assert columns.tolist() == [True] * OLD + [False] * 4
        assert (gradient(terms["classification"], logits).abs().sum(0) > 0).all()

    def test_its_term_is_the_divergence_from_the_parent_softened(self) -> None:
        step, _, _ = double(LwF())
        p, q = (
            np.exp(x.detach().numpy()[:, :OLD] / 2) / np.exp(x.detach().numpy()[:, :OLD] / 2).sum(1, keepdims=True)
            for x in (step.parent.logits, step.new.logits)
        )
        expected = (p * np.log(p / q)).sum(1).mean()
        assert LwF().losses(step)["logit distillation"].item() == pytest.approx(expected)

    def test_is_content_where_the_old_logits_are_the_parents(self) -> None:
        step, _, _ = double(LwF())
        logits = step.new.logits.clone()
        logits[:, :OLD] = step.parent.logits + 7
        terms = LwF().losses(replace(step, new=step.new._replace(logits=logits)))
        assert terms["logit distillation"].item() == pytest.approx(0, abs=1e-12)


TERMS = {
    "relation": "old relations",
    "feature-distillation": "feature distillation",
    "l2": "squared distance",
    "mmd": "discrepancy",
    "contrastive": "new to old",
    "triplet-new-to-old": "new to old",
    "ract": "new to old and new",
}
"""What holds the new space to the old one, of methods that compare the two embeddings of an image."""


class TestGeometry:
    @pytest.mark.parametrize("name", TERMS)
    def test_only_relations_do_not_see_a_rotation_of_the_new_space(self, name: str) -> None:
        # Which is why relations alone do not keep old vectors searchable.
        method = METHODS[name]()
        step, new, old = double(method)
        plain, turned, both = (
            method.losses(given)[TERMS[name]].item()
            for given in (
                step,
                with_new(step, new @ rotation()),
                with_old(with_new(step, new @ rotation()), old @ rotation()),
            )
        )
        assert (turned == pytest.approx(plain)) == (name == "relation")
        assert both == pytest.approx(plain)

    @pytest.mark.parametrize("name", ["relation", "feature-distillation", "l2", "mmd"])
    def test_a_network_that_is_still_its_parent_is_what_distillation_wants(self, name: str) -> None:
        method = METHODS[name]()
        step, _, old = double(method)
        new = old.detach().clone().requires_grad_()
        value = method.losses(with_new(step, new))[TERMS[name]]
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert gradient(value, new).abs().max() < 1e-9

    @pytest.mark.parametrize(("name", "is_zero"), [("mmd", True), ("feature-distillation", False), ("l2", False)])
    def test_a_discrepancy_compares_distributions_and_distances_compare_images(self, name: str, is_zero: bool) -> None:
        method = METHODS[name]()
        step, _, old = double(method)
        swapped = method.losses(with_new(step, old.detach().flip(0)))[TERMS[name]]
        assert (swapped.item() == pytest.approx(0, abs=1e-12)) == is_zero

    @pytest.mark.parametrize("name", TERMS)
    def test_the_length_of_features_is_free(self, name: str) -> None:
        method = METHODS[name]()
        step, new, old = double(method)
        stretched = method.losses(with_old(with_new(step, 3 * new), 2 * old))[TERMS[name]].item()
        assert stretched == pytest.approx(method.losses(step)[TERMS[name]].item())

    def test_the_relations_of_the_learning_network_are_the_reference(self) -> None:
        # As published, and the reverse of what is usual in distillation.
        step, new, old = double(RelationDistillation())
        (log_p, p), (log_q, _) = (
            (x.log_softmax(1), x.softmax(1))
            for x in (F.normalize(rows) @ F.normalize(rows).T / 4 for rows in (new, old))
        )
        expected = 10 * 16 * (p * (log_p - log_q)).sum(1).mean()
        assert RelationDistillation().losses(step)["old relations"].item() == pytest.approx(expected.item())

    def test_squared_distillation_holds_the_length_too(self) -> None:
        method = FeatureDistillation(distance="squared")
        step, _, old = double(method)
        assert method.losses(with_new(step, 2 * old))["feature distillation"].item() > 1


class TestNewToOld:
    """Hand-made spaces of two images, whose coordinates say which pairs are near."""

    @staticmethod
    def term(method: Method, new: list[list[float]], old: list[list[float]], labels: list[int]) -> float:
        def embedded(rows: list[list[float]]) -> Outputs:
            return outputs(torch.tensor(rows, dtype=torch.float64))

        # A classification among coordinates, which is not looked at.
        return method.losses(Step(torch.tensor(labels), embedded(new), embedded(old), head=Head(4, 0), state=None))[
            TERMS[method.name]
        ].item()

    @pytest.mark.parametrize(
        ("plain", "ract"),
        [
            (NewToOldContrastive(temperature=1.0), RACT(temperature=1.0)),
            (NewToOldTriplet(margin=0.5), RACT(form="triplet", margin=0.5)),
        ],
        ids=["contrastive", "triplet"],
    )
    def test_ract_alone_sees_a_new_vector_that_displaces_an_old_one(self, plain: Method, ract: Method) -> None:
        old: Rows = [[1, 0, 0], [0, 1, 0]]
        # Both times each image is equally near to the old vectors; the second time the new ones of two classes meet.
        apart: Rows = [[1, 0, 1], [0, 1, -1]]
        together: Rows = [[1, 0, 1], [0, 1, 1]]
        assert self.term(plain, apart, old, [0, 1]) == pytest.approx(self.term(plain, together, old, [0, 1]))
        assert self.term(ract, together, old, [0, 1]) > self.term(ract, apart, old, [0, 1]) + 0.1
        # Of one class they may meet.
        assert self.term(ract, together, old, [0, 0]) == pytest.approx(self.term(ract, apart, old, [0, 0]))

    @pytest.mark.parametrize(
        "method",
        [NewToOldContrastive(), NewToOldTriplet(), RACT(), RACT(form="triplet")],
        ids=lambda method: method.name,
    )
    def test_the_only_positive_is_the_images_own_old_vector(self, method: Method) -> None:
        new: Rows = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
        labels = [0, 0, 1]
        own, exchanged = new, [new[1], new[0], new[2]]
        assert self.term(method, new, exchanged, labels) > self.term(method, new, own, labels) + 0.1
        # And images of the same class are no negatives, however far apart.
        assert self.term(method, new, exchanged, [0, 0, 0]) == 0


class TestBCT:
    def test_the_old_head_reads_the_new_features_among_its_rows_and_means_of_new_classes(self) -> None:
        step, new, old = double(BCT())
        means = [old[label == LABELS].mean(0) for label in (4, 5, 6)]
        rows = torch.cat([step.parent_head.weight, torch.stack(means)])
        logits = 16 * F.normalize(new) @ F.normalize(rows).T
        # Class 7 has no image and no column; old classes that do have some keep the rows that they learned.
        expected = cross_entropy(logits, LABELS.tolist())
        assert BCT().losses(step)["influence"].item() == pytest.approx(expected)

    def test_rows_of_the_old_head_alone_hold_the_images_of_their_classes(self) -> None:
        """The published code's ``n2o_map``: the mean over samples whose class the old head knows."""
        method = BCT(rows="old")
        step, new, _ = double(method)
        classes = len(step.parent_head.weight)
        known = classes > LABELS
        assert 0 < known.sum() < len(LABELS)
        logits = 16 * F.normalize(new[known]) @ F.normalize(step.parent_head.weight).T
        value = method.losses(step)["influence"]
        assert value.item() == pytest.approx(cross_entropy(logits, LABELS[known].tolist()))
        moved = gradient(value, new).abs().sum(1) > 0
        assert torch.equal(moved, known), "an image of a new class is held to nothing"
        nobody = replace(step, labels=torch.full_like(LABELS, classes))
        assert method.losses(nobody)["influence"].item() == 0, "a batch may have none of them"
        with pytest.raises(InputError, match="leave out  --option rows=old"):
            double(method, LABELS + classes)

    def test_rows_that_are_means_of_every_class(self) -> None:
        """The published code's synthesised classifier."""
        method = BCT(rows="means")
        step, new, old = double(method)
        present = sorted(set(LABELS.tolist()))
        rows = torch.stack([old[label == LABELS].mean(0) for label in present])
        expected = cross_entropy(
            16 * F.normalize(new) @ F.normalize(rows).T, [present.index(k) for k in LABELS.tolist()]
        )
        assert method.losses(step)["influence"].item() == pytest.approx(expected)

    def test_the_influence_moves_features_and_neither_head(self) -> None:
        step, new, _ = double(BCT())
        step.parent_head.requires_grad_(True)
        value = BCT().losses(step)["influence"]
        assert (gradient(value, new).abs().sum(1) > 0).all()
        assert not gradient(value, step.head.weight).any()
        assert not gradient(value, step.parent_head.weight).any()
        assert not list(step.state.parameters())

    def test_features_that_the_old_head_reads_well_are_cheap(self) -> None:
        step, _, _ = double(BCT())
        good = step.state.rows[LABELS]
        value = BCT().losses(with_new(step, good))["influence"]
        assert value < BCT().losses(with_new(step, good.roll(2, 0)))["influence"]
        assert value < BCT().losses(step)["influence"]


class TestUniBCT:
    @staticmethod
    def task(seed: int = 0) -> tuple[Task, Outputs]:
        """Of four classes, the second without images; and what the new network, of another width, makes of them."""
        generator = torch.Generator().manual_seed(seed)
        old, new = (torch.randn(9, width, generator=generator, dtype=torch.float64) for width in (4, 6))
        labels = torch.tensor([0, 0, 0, 2, 2, 2, 2, 3, 3])
        return Task(labels, dimension=6, classes=4, old=outputs(old)), outputs(new)

    @pytest.mark.parametrize(
        ("epochs", "refreshed"), [(35, [10, 20]), (70, [20, 40]), (7, [2, 4]), (3, [1, 2]), (2, [1]), (1, [])]
    )
    def test_refines_twice_when_the_published_share_of_the_training_is_done(
        self, epochs: int, refreshed: list[int]
    ) -> None:
        (task, now), method = self.task(), UniBCT()
        state = method.begin(task)
        asked: list[int] = []
        for epoch in range(epochs):

            def outputs_now(epoch: int = epoch) -> Outputs:
                asked.append(epoch)
                return now

            method.epoch_begins(state, task, epoch / epochs, outputs_now)
        assert asked == refreshed

    def test_the_graph_is_the_new_networks_and_what_flows_are_old_features(self) -> None:
        method = UniBCT(share=0.7, temperature=0.3)
        task, now = self.task()
        state = method.begin(task)
        for progress, outputs_now in ((0.3, now), (0.6, self.task(seed=1)[1])):
            method.epoch_begins(state, task, progress, lambda: outputs_now)  # noqa: B023
            expected = diffused_class_means(
                outputs_now.embeddings, task.old_outputs.features, task.labels, 4, share=0.7, temperature=0.3
            )
            torch.testing.assert_close(state.rows, expected)

    def test_a_run_that_is_resumed_does_not_refine_again(self) -> None:
        (task, now), method = self.task(), UniBCT()
        state, resumed = method.begin(task), method.begin(task)
        method.epoch_begins(state, task, 0.4, lambda: now)
        resumed.load_state_dict(state.state_dict())
        method.epoch_begins(resumed, task, 0.5, lambda: pytest.fail("it was refined before"))
        assert torch.equal(resumed.rows, state.rows)

    def step(self, state: RefinedPrototypes, task: Task, features: Tensor) -> Step:
        head = Head(6, 4).double()
        return Step(task.labels, outputs(features, head), task.old, head=head, state=state)

    def test_is_silent_until_the_first_refinement(self) -> None:
        task, now = self.task()
        features = now.features.clone().requires_grad_()
        value = UniBCT().losses(self.step(UniBCT().begin(task), task, features))["prototypes"]
        assert value.item() == 0
        assert not gradient(value, features).any()

    def test_then_classifies_unit_features_among_prototypes_of_their_own_length(self) -> None:
        (task, now), method = self.task(), UniBCT()
        state = method.begin(task)
        method.epoch_begins(state, task, 0.3, lambda: now)
        features = now.features.clone().requires_grad_()
        value = method.losses(self.step(state, task, features))["prototypes"]
        cut = features[:, :4] / features[:, :4].norm(dim=1, keepdim=True)
        # Class 1 has no image and no prototype.
        expected = cross_entropy(cut @ state.rows[[0, 2, 3]].T, [0, 0, 0, 1, 1, 1, 1, 2, 2])
        assert value.item() == pytest.approx(expected)
        assert gradient(value, features).any()
        assert not list(state.parameters())


class TestAdvBCT:
    @staticmethod
    def plain(step: Step, features: Tensor) -> Tensor:
        """The discriminator's loss where nothing is reversed: new features are class 0, old ones class 1."""
        new, old = (step.state.discriminator(x).log_softmax(1) for x in (features, step.parent.features))
        made: Tensor = -new[:, 0].mean() - old[:, 1].mean()
        return made

    @given(st.floats(0, 1))
    @settings(max_examples=25, deadline=None)
    def test_the_reversal_grows_and_the_weight_falls_with_the_progress(self, p: float) -> None:
        step, new, _ = double(AdvBCT())
        value = AdvBCT().losses(replace(step, progress=p))["adversary"]
        plain = self.plain(step, new)
        assert value.item() == pytest.approx((1 - p) * plain.item())
        strength = math.tanh(5 * p)  # Which is 2 / (1 + exp(-10 p)) - 1.
        torch.testing.assert_close(gradient(value, new), -strength * (1 - p) * gradient(plain, new))
        for weight in step.state.discriminator.parameters():
            torch.testing.assert_close(gradient(value, weight), (1 - p) * gradient(plain, weight))

    def test_the_discriminator_learns_to_tell_and_the_network_not_to_be_told(self) -> None:
        step, new, _ = double(AdvBCT())
        weights = list(step.state.discriminator.parameters())
        before = self.plain(step, new)
        value = AdvBCT().losses(step)["adversary"]
        directions, direction = [gradient(value, weight) for weight in weights], gradient(value, new)
        assert self.plain(step, new - 0.01 * direction) > before
        with torch.no_grad():
            for weight, down in zip(weights, directions, strict=True):
                weight -= 0.01 * down
        assert self.plain(step, new) < before

    def test_boundaries_are_of_old_embeddings_and_a_class_of_one_image_has_none(self) -> None:
        labels = torch.tensor([4, 4, 4, 5, 6, 6])
        step, new, old = double(AdvBCT(), labels)
        state, embeddings = step.state, F.normalize(old.detach())
        torch.testing.assert_close(state.centres, class_means(embeddings, labels, 8))
        torch.testing.assert_close(state.radii, largest_distances(embeddings, labels, state.centres))
        assert state.exists.tolist() == [False] * 4 + [True, False, True, False]
        expected = elastic_boundary(new, labels, state.centres, state.radii, torch.zeros(8).double(), state.exists)
        value = AdvBCT().losses(step)["boundary"]
        assert value.item() == pytest.approx(expected.item())
        assert value.item() > 0
        assert gradient(value, new).abs().sum(1)[3] == 0

    def test_elasticity_is_learned_beside_the_network(self) -> None:
        step, _, _ = double(AdvBCT())
        assert any(parameter is step.state.elasticity for parameter in step.state.parameters())
        assert gradient(AdvBCT().losses(step)["boundary"], step.state.elasticity).any()

    def test_begins_the_same_whatever_was_drawn_before(self) -> None:
        states = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.random.get_rng_state()
            states.append(Adversary(torch.eye(4), torch.tensor([0, 0, 1, 1]), 2).state_dict())
            assert torch.equal(torch.random.get_rng_state(), before)
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class TestLCE:
    def test_rows_are_drawn_to_the_old_centres_of_the_classes_that_are_shown(self) -> None:
        step, new, old = double(LCE())
        value = LCE().losses(step)["alignment"]
        moved = gradient(value, step.head.weight).abs().sum(1) > 0
        assert moved.tolist() == [True, False, False, False, True, True, True, False]
        assert not gradient(value, new).any()
        with torch.no_grad():
            for label in (0, 4, 5, 6):
                step.head.weight[label] = 3 * F.normalize(old[label == LABELS]).mean(0)
        assert LCE().losses(step)["alignment"].item() == pytest.approx(0, abs=1e-9)
        assert value.item() > 1

    def test_features_are_drawn_inside_the_old_boundary_and_not_further(self) -> None:
        step, new, old = double(LCE())
        value = LCE().losses(step)["boundary"]
        assert value.item() > 0
        assert gradient(value, new).any()
        assert not gradient(value, step.head.weight).any()
        assert LCE().losses(with_new(step, old))["boundary"].item() == pytest.approx(0, abs=1e-12)
        centres = step.state.centres[LABELS]
        assert LCE().losses(with_new(step, centres))["boundary"].item() == 0

    def test_centres_are_unit_and_boundaries_are_the_least_cosines(self) -> None:
        embeddings = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]])
        state = Centres(embeddings, torch.tensor([0, 0, 2]), 3)
        half = 0.5**0.5
        torch.testing.assert_close(state.centres, torch.tensor([[half, half], [0, 0], [0.6, 0.8]]))
        torch.testing.assert_close(state.boundaries, torch.tensor([half, 1, 1]))
        assert state.present.tolist() == [True, False, True]
        assert not list(state.parameters())

    def test_corners_of_classes_to_come_are_left_alone(self) -> None:
        head = Head(4, 2, "simplex")
        labels, features = torch.tensor([0, 0, 1, 1]), torch.eye(4)
        state = Centres(features, labels, 2)
        terms = LCE().losses(Step(labels, outputs(features, head), outputs(features), head=head, state=state))
        expected = 100 * (head.weight[:2] - state.centres).square().mean()
        assert terms["alignment"].item() == pytest.approx(expected.item(), rel=1e-5)


class TestCoReS:
    @staticmethod
    def learned(seed: int, classes: int, kind: HeadKind) -> tuple[torch.nn.Linear, Head]:
        """A linear embedder that begins anew and learns to tell clusters apart under a head of its own."""
        images, labels = TestCoReS.images(classes)
        torch.manual_seed(seed)
        embedder, head = torch.nn.Linear(16, 8), Head(8, classes, kind)
        optimizer = torch.optim.SGD([*embedder.parameters(), *head.parameters()], lr=0.05)
        for _ in range(300):
            value = CoReS().losses(Step(labels, outputs(embedder(images), head), head=head, state=None))[
                "classification"
            ]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        assert value.item() < 0.05
        return embedder, head

    @staticmethod
    def images(classes: int) -> tuple[Tensor, Tensor]:
        """Of clusters whose first are the same however many there are."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(60) % classes
        clusters = 3 * torch.randn(6, 16, generator=generator)
        return clusters[labels] + 0.3 * torch.randn(60, 16, generator=generator), labels

    def test_the_loss_is_a_classification_of_raw_features_among_all_corners(self) -> None:
        step, new, _ = double(CoReS())
        logits = new @ step.head.weight.T
        assert logits.shape == (8, WIDTH + 1)
        terms = CoReS().losses(replace(step, old=None, old_head=None, state=None))
        assert terms.keys() == {"classification"}
        assert terms["classification"].item() == pytest.approx(cross_entropy(logits, LABELS.tolist()))

    @pytest.mark.parametrize("kind", ["simplex", "linear"])
    def test_networks_that_never_met_agree_under_the_simplex_which_did_not_move(self, kind: HeadKind) -> None:
        (first, old), (second, new) = self.learned(0, 3, kind), self.learned(1, 6, kind)
        gallery, old_labels = self.images(3)
        queries, new_labels = self.images(6)
        with torch.no_grad():
            similarities = F.normalize(second(queries)) @ F.normalize(first(gallery)).T
        shared = new_labels < 3
        recall = (old_labels[similarities.argmax(1)] == new_labels)[shared].double().mean().item()
        if kind == "simplex":
            assert recall == 1
            assert torch.equal(old.weight, Head(8, 0, "simplex").weight)
            assert torch.equal(new.weight, old.weight)
        else:
            assert recall < 0.5

    def test_asks_for_the_simplex_and_not_for_the_parent(self) -> None:
        assert CoReS.needs.head == "simplex"
        assert not any((CoReS.needs.parent, CoReS.needs.old_outputs))
        assert CoReS.needs.old_images, "every generation learns from all images so far"
        assert [method for method in RIVALS if method.needs.head] == [CoReS]


class TestCL2R:
    def test_old_images_alone_are_held_and_the_weight_grows_with_what_is_new(self) -> None:
        step, new, old = double(CL2R())
        state = CL2R().begin(Task(LABELS, WIDTH, 7, "simplex", OLD))
        terms = CL2R().losses(replace(step, state=state))
        assert terms["classification"].item() == pytest.approx(cross_entropy(new @ step.head.weight.T, LABELS.tolist()))
        held = [index for index, label in enumerate(LABELS.tolist()) if label < OLD]
        apart = [1 - (new[i] @ old[i] / new[i].norm() / old[i].norm()).item() for i in held]
        assert len(held) == 2
        # Three new classes beside four old ones.
        assert terms["feature distillation"].item() == pytest.approx(5 * (3 / 4) ** 0.5 * sum(apart) / 2)
        pull = gradient(terms["feature distillation"], new).abs().sum(1)
        assert (pull[held] > 0).all()
        assert pull.sum().item() == pytest.approx(pull[held].sum().item()), "new images may go where they like"

    def test_a_batch_of_new_images_is_not_held(self) -> None:
        labels = torch.tensor([4, 4, 5, 5, 6, 6, 6, 4])
        step, _, _ = double(CL2R(), labels)
        terms = CL2R().losses(replace(step, state=CL2R().begin(Task(labels, WIDTH, 7, "simplex", OLD))))
        assert terms["feature distillation"].item() == 0

    def test_more_images_of_known_classes_are_held_too(self) -> None:
        """No class is new: a weight that grows with their number would be none."""
        assert CL2R().begin(Task(LABELS % OLD, WIDTH, OLD, "simplex", OLD)).weight == 5

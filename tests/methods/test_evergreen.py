"""Evergreen: each term against NumPy, what its prototypes hold, and what it does where the papers' terms fall silent."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from conftest import coloured_images
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.learning.decision import root_of
from evergallery.memory import ClassMeans, Memory
from evergallery.methods import METHODS, Evergreen, Step, Task
from evergallery.network import Architecture, Embedder, Head, Network, Outputs
from evergallery.training import Lineage, Settings, TrainingData, train
from evergallery.workspace import Workspace

OLD, ALL, WIDTH = 3, 5, 4
LABELS = torch.tensor([3, 3, 4, 4, 4])
Floats = NDArray[np.float64]


def outputs(features: Tensor, classes: int = ALL) -> Outputs:
    head = Head(features.shape[1], 0).grow(classes, 0).double()
    return Outputs(features, F.normalize(features), head(features))


def rows(count: int, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)))


def memory(classes: list[int]) -> Memory:
    means = rows(len(classes), seed=5)
    return Memory({"v1": ClassMeans(torch.tensor(classes), means, F.normalize(means), torch.zeros_like(means))})


def task(labels: Tensor = LABELS, kept: Memory | None = None) -> Task:
    old = outputs(rows(len(labels), seed=1), OLD)
    return Task(labels, WIDTH, ALL, old_classes=OLD, old=old, memory=memory([0, 2]) if kept is None else kept)


def a_step(labels: Tensor = LABELS, width: int = WIDTH, kept: Memory | None = None) -> Step:
    given = task(labels, kept)
    return Step(
        labels,
        outputs(rows(len(labels), width, seed=2)),
        given.old,
        head=Head(width, 0).grow(ALL, 0),
        old_head=Head(WIDTH, 0).grow(OLD, 0),
        state=Evergreen().begin(given).double(),
    )


def unit(x: Floats) -> Floats:
    made: Floats = x / np.linalg.norm(x, axis=1, keepdims=True)
    return made


def cross_entropy(logits: Floats, labels: Floats) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("width", [WIDTH, WIDTH + 2, WIDTH - 1])
def test_anchor_and_prototypes_are_what_the_card_says(width: int) -> None:
    step = a_step(width=width)
    losses = Evergreen().losses(step)
    features = np.zeros((len(LABELS), WIDTH))
    features[:, : min(width, WIDTH)] = step.new.features.numpy()[:, :WIDTH]
    u, v = unit(features), step.parent.embeddings.numpy()
    assert losses["anchor"].item() == pytest.approx(30 * (1 - (u * v).sum(1)).mean(), abs=1e-12)
    labels = LABELS.numpy()
    # Classes 0 and 2 are remembered, 3 and 4 are in the task, and of 1 nobody knows anything.
    fresh = unit(np.stack([v[labels == label].mean(0) for label in (3, 4)]))
    known = np.concatenate([unit(rows(2, seed=5).numpy()), fresh])
    expected = cross_entropy(16 * u @ known.T, labels - 1)
    assert losses["prototypes"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("width", [WIDTH, WIDTH + 2, WIDTH - 1])
def test_root_holds_images_where_it_put_them(width: int) -> None:
    step = a_step()
    root = rows(len(LABELS), width, seed=7)
    losses = Evergreen(root_weight=7.0).losses(replace(step, root=outputs(root, OLD)))
    features = np.zeros((len(LABELS), width))
    features[:, : min(width, WIDTH)] = step.new.features.numpy()[:, :width]
    assert losses.pop("root").item() == pytest.approx(7 * (1 - (unit(features) * unit(root.numpy())).sum(1)).mean())
    # Where the parent is the root, nothing is said twice.
    assert {name: value.item() for name, value in losses.items()} == {
        name: value.item() for name, value in Evergreen().losses(step).items()
    }


def test_root_is_as_far_up_as_evergreen_carried_the_space(tmp_path: Path, quick: Callable[..., Settings]) -> None:
    names = ["finetune", "evergreen", "evergreen", "finetune", "evergreen", "evergreen", "csd"]
    with Workspace.create(tmp_path / "shop", backbone="resnet8", size=16) as shop:
        for number, name in enumerate(names):
            images = coloured_images(2, each=3, first=2 * number)
            parent = f"v{number}" if number else None
            shop.learn(images, method=METHODS[name](), parent=parent, settings=quick(epochs=1))
        roots = [generation.card.training.get("root") for generation in shop.generations()]
        assert roots == [None, None, "v1", None, None, "v4", None]
        updated = shop.generation("v3")
        found = root_of(shop.directory, updated, Evergreen())
        assert found is not None
        assert found.name == "v1"
        shutil.rmtree(shop.generation("v1").directory)
        found = root_of(shop.directory, updated, Evergreen())
        assert found is not None
        assert found.name == "v2"


def a_network(seed: int) -> Network:
    embedder = Embedder(Architecture(), seed=seed)
    return Network(embedder, Head(embedder.dimension, 0).grow(ALL, seed))


def test_training_leaves_the_root_alone(tmp_path: Path, quick: Callable[..., Settings]) -> None:
    root, before = a_network(3), a_network(3).state_dict()
    trained = train(
        a_network(1),
        Evergreen(),
        TrainingData(coloured_images(ALL, each=4), None, Preprocessing(size=16)),
        quick(epochs=1),
        tmp_path,
        lineage=Lineage(a_network(2), root),
    )
    # Batch statistics included: it runs in evaluation mode.
    assert all(torch.equal(before[name], tensor) for name, tensor in root.state_dict().items())
    assert trained.history[0]["losses"]["root"] > 0


@pytest.mark.parametrize("root", [True, False], ids=["later update", "first update"])
def test_finished_embedder_goes_a_part_of_the_way_from_the_second_update_on(
    root: bool, tmp_path: Path, quick: Callable[..., Settings]
) -> None:
    def trained(share: float, inherited: bool = True) -> Network:
        network, parent, first = (a_network(seed) for seed in (1, 1, 3))
        train(
            network,
            Evergreen(new_share=share),
            TrainingData(coloured_images(ALL, each=4), None, Preprocessing(size=16)),
            quick(epochs=1),
            tmp_path / f"{share}-{inherited}",
            lineage=Lineage(parent, first if root else None, inherited),
        )
        return network

    for name in ("0.25-True", "1.0-True", "0.25-False"):
        (tmp_path / name).mkdir()
    start, whole, part = (network.embedder.state_dict() for network in (a_network(1), trained(1.0), trained(0.25)))
    share = 0.25 if root else 1.0
    for name, tensor in part.items():
        if tensor.is_floating_point():  # Batch statistics too.
            assert torch.allclose(tensor, share * whole[name] + (1 - share) * start[name], atol=1e-6), name
    # Weights that began elsewhere have nothing to do with the parent's.
    assert all(torch.equal(whole[name], tensor) for name, tensor in trained(0.25, False).embedder.state_dict().items())


def test_share_of_the_way_is_checked() -> None:
    for wrong in (0, 1.5):
        with pytest.raises(InputError, match=f"new_share={wrong} is not usable for 'evergreen'"):
            Evergreen.with_options({"new_share": wrong})


def test_weights_multiply_their_own_term() -> None:
    step = a_step()
    plain = Evergreen().losses(step)
    weighted = Evergreen(contrastive_weight=3.0, anchor_weight=90.0, prototype_weight=0.5).losses(step)
    factors = {"contrastive distillation": 0.5, "anchor": 3.0, "prototypes": 0.5, "classification": 1.0, "triplet": 1.0}
    assert {name: (weighted[name] / plain[name]).item() for name in plain} == pytest.approx(factors)


def test_what_is_remembered_counts_before_what_the_parent_sees_now() -> None:
    """A class that comes again keeps the prototype of the images that made its stored vectors."""
    labels = torch.tensor([0, 0, 4, 4])
    state = Evergreen().begin(task(labels))
    assert torch.allclose(state.vectors[0], F.normalize(rows(2, seed=5))[0].to(state.vectors))
    assert state.present.tolist() == [True, False, True, False, True]


def test_begins_without_a_memory() -> None:
    state = Evergreen().begin(task(kept=Memory()))
    assert state.present.tolist() == [False, False, False, True, True]


def test_more_images_of_old_classes_teach_something() -> None:
    """CSD's classification is silent on them."""
    step = a_step(torch.tensor([0, 0, 2, 2]))
    assert Evergreen().losses(step)["classification"].item() > 0.1


def test_nothing_holds_a_network_that_has_not_moved() -> None:
    step = a_step()
    still = replace(step, new=outputs(step.parent.features.clone().requires_grad_()))
    losses = Evergreen().losses(still)
    assert losses["anchor"].item() == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(losses["anchor"], still.new.features)
    assert gradient.abs().max().item() < 1e-9


def test_anchor_draws_an_image_to_its_old_embedding() -> None:
    step = a_step()
    features = step.new.features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Evergreen().losses(replace(step, new=outputs(features)))["anchor"], features)
    with torch.no_grad():
        nearer = F.cosine_similarity(features - 0.01 * gradient, step.parent.features)
        assert (nearer > F.cosine_similarity(features, step.parent.features)).all()

"""How long to learn, from how much at once, and which weights are kept: steps, parts of a batch, averages, and the epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import coloured_images
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.memory import Memory, TrainingOutputs
from evergallery.methods import L2, Finetune, Method
from evergallery.network import Architecture, Embedder, Head, Network, outputs_of
from evergallery.training import Lineage, Progress, Settings, TrainingData, TrainingResult, train
from evergallery.training.averaging import moving_average
from evergallery.training.batches import parts_of
from evergallery.training.validation import Reference, score
from evergallery.watching import TrainingListener

PREPROCESSING = Preprocessing(size=16)
Quick = Callable[..., Settings]
ONE_BY_ONE = Finetune(triplet_margin=-2)
"""A loss without pairs of images."""


def new_network(classes: int = 6, seed: int = 0) -> Network:
    embedder = Embedder(Architecture(), seed=seed)
    return Network(embedder, Head(embedder.dimension, 0).grow(classes, seed))


def run(images: ImageSet, settings: Settings, directory: Path, **arguments: Any) -> tuple[Network, TrainingResult]:
    directory.mkdir(parents=True, exist_ok=True)
    network, method, validation = new_network(), arguments.pop("method", ONE_BY_ONE), arguments.pop("validation", None)
    trained = train(
        network,
        method,
        TrainingData(images, validation, PREPROCESSING),
        settings,
        directory,
        watcher=TrainingListener(arguments.pop("on_progress", None)),
        **arguments,
    )
    return network, trained


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


class TestAccumulation:
    def test_parts_are_the_batch_up_to_rounding(self, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        plain = quick(
            epochs=1, normalisation="fixed", optimizer="sgd", learning_rate=0.05, padding=0, flip=False, clip_norm=None,
            schedule="constant",
        )  # fmt: skip
        whole, _ = run(images, plain, tmp_path / "whole")
        for parts in (2, 3, 16):
            made, trained = run(images, plain.model_copy(update={"accumulate": parts}), tmp_path / str(parts))
            assert trained.images_seen == 64
            begun = weights(new_network())
            for name, tensor in weights(whole).items():
                moved = (tensor - begun[name]).abs().max()
                assert (weights(made)[name] - tensor).abs().max() <= 1e-3 * moved + 1e-6, name

    def test_parts_hold_whole_classes(self) -> None:
        indices = torch.arange(24).numpy()
        settings = Settings(batch_size=24, images_per_class=4, accumulate=4)
        parts = parts_of(indices, settings)
        assert [len(part) for part in parts] == [8, 8, 4, 4]
        assert np.concatenate(parts).tolist() == list(range(24))
        assert len(parts_of(indices[:8], settings)) == 2, "no part is empty"


class TestSteps:
    @pytest.mark.parametrize("steps", [1, 4, 6, 11])
    def test_a_run_ends_with_its_budget(self, steps: int, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        _, trained = run(images, quick(steps=steps, epochs=99), tmp_path)
        assert trained.images_seen == 16 * steps
        assert trained.epochs == len(trained.history) == -(-steps // 4)
        assert trained.history[-1]["learning_rate"] == pytest.approx(0, abs=1e-9), "its schedule ends there"

    def test_a_budget_of_whole_epochs_is_these_epochs(self, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        epochs, _ = run(images, quick(epochs=3), tmp_path / "epochs")
        steps, _ = run(images, quick(steps=12), tmp_path / "steps")
        for name, tensor in weights(epochs).items():
            torch.testing.assert_close(weights(steps)[name], tensor, msg=name)

    def test_an_interrupted_one_goes_on(self, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        settings = quick(steps=10, ema=0.9, select="last")

        def stop(progress: Progress) -> None:
            assert progress.epochs == 3
            if progress.epoch == 2:
                raise KeyboardInterrupt

        whole, _ = run(images, settings, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(images, settings, tmp_path / "parts", on_progress=stop)
        resumed, trained = run(images, settings, tmp_path / "parts")
        assert trained.images_seen == 160
        for name, tensor in weights(whole).items():
            assert torch.equal(weights(resumed)[name], tensor), name


class TestMovingAverage:
    def test_it_is_what_it_says(self) -> None:
        module = nn.BatchNorm1d(2)
        average: Any = moving_average(module, 0.3)
        assert module.running_mean is not None
        expected = None
        for step in range(6):
            with torch.no_grad():
                module.weight.fill_(step**2)
                module.running_mean.fill_(-step)
            average.update_parameters(module)
            share = min(0.3, (1 + step) / (10 + step))
            expected = 0.0 if expected is None else share * expected + (1 - share) * step**2
        assert average.module.weight.tolist() == pytest.approx([expected] * 2)
        assert -5 < average.module.running_mean[0].item() < -4, "batch statistics too"

    def test_it_is_kept_in_place_of_the_weights(self, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        plain, _ = run(images, quick(select="last"), tmp_path / "plain", validation=images)
        same, _ = run(images, quick(select="last", ema=0.0), tmp_path / "none", validation=images)
        averaged, trained = run(images, quick(select="last", ema=0.9), tmp_path / "averaged", validation=images)
        for name, tensor in weights(plain).items():
            assert torch.equal(weights(same)[name], tensor), "a decay of zero is the last weights"
        begun = weights(new_network())
        name = next(name for name, tensor in begun.items() if tensor.ndim == 4)
        way, part = (weights(trained)[name] - begun[name] for trained in (plain, averaged))
        assert 0 < part.norm() < way.norm(), "an average lags behind"
        made = outputs_of(averaged, images, PREPROCESSING).embeddings
        labels = torch.from_numpy(images.labels)
        similar = (made @ made.T).fill_diagonal_(-1).argmax(1)
        assert (labels[similar] == labels).double().mean().item() == pytest.approx(
            trained.validation["recall@1"], abs=0.02
        )


class TestBalanced:
    def reference(self) -> tuple[Reference, Tensor, Tensor]:
        """An old class at each end of the first axis, and two new ones between."""
        angles = torch.tensor([1.2, 1.3, 1.4, 1.8, 1.9, 2.0])
        embeddings = torch.stack([angles.cos(), angles.sin()], 1)
        prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        return Reference(embeddings, torch.tensor([0, 1]), prototypes), embeddings, torch.tensor([2, 2, 2, 3, 3, 3])

    def test_nothing_is_lost_where_nothing_moves(self) -> None:
        reference, embeddings, labels = self.reference()
        assert reference.figures(embeddings, labels) == {"recall@1 among old": 1.0, "agreement": 1.0}

    def test_new_images_on_old_classes_are_seen(self) -> None:
        reference, embeddings, labels = self.reference()
        moved = embeddings.clone()
        moved[0] = torch.tensor([1.0, 0.0])
        figures = reference.figures(moved, labels)
        assert figures["recall@1 among old"] < 1
        assert score({"recall@1": 1.0, **figures}) < score({"recall@1": 1.0, **reference.figures(embeddings, labels)})

    def test_new_queries_that_no_longer_read_old_vectors_are_seen(self) -> None:
        reference, embeddings, labels = self.reference()
        mirrored = embeddings * torch.tensor([-1.0, 1.0])
        figures = reference.figures(mirrored, labels)
        assert figures["recall@1 among old"] == 1, "the classes are as far apart as they were"
        assert figures["agreement"] < 0.5

    @pytest.mark.parametrize("method", [L2(), ONE_BY_ONE], ids=lambda method: method.name)
    def test_the_epoch_is_chosen_by_both(self, method: Method, quick: Quick, tmp_path: Path) -> None:
        parent, images = new_network(3, seed=1).eval(), coloured_images(6, each=6)
        memory = Memory().after("v1", TrainingOutputs(torch.arange(3), parent(torch.rand(3, 3, 16, 16))))
        settings = quick(epochs=4, select="balanced", learning_rate=5e-3, schedule="constant")
        lineage = Lineage(parent, memory=memory)
        _, trained = run(images, settings, tmp_path, method=method, validation=images, lineage=lineage)
        scores = [score(record) for record in trained.history]
        assert trained.best_epoch == max(index + 1 for index, score in enumerate(scores) if score == max(scores))
        assert set(trained.validation) == {"recall@1", "mAP@R", "recall@1 among old", "agreement"}
        assert all(0 <= value <= 1 for value in trained.validation.values())

    def test_without_a_memory_it_is_recall(self, images: ImageSet, quick: Quick, tmp_path: Path) -> None:
        _, trained = run(images, quick(select="balanced"), tmp_path, validation=images)
        assert set(trained.validation) == {"recall@1", "mAP@R"}

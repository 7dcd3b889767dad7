"""What a pretrained network learns by: statistics that stay, rates by layer, and the recipe that fits without being asked for."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import coloured_images
from evergallery import Workspace
from evergallery.data.images import Preprocessing
from evergallery.generations.generation import Generation
from evergallery.methods import Finetune
from evergallery.network import Embedder, build_backbone
from evergallery.training import Settings
from evergallery.training.augmentation import augment

TINY = {"cnn": "test_resnet.r160_in1k", "transformer": "test_vit.r160_in1k"}


def shop_of(folder: Path, backbone: str) -> Workspace:
    save_file(build_backbone(backbone, seed=5).module.state_dict(), folder / "published.safetensors")
    return Workspace.create(
        folder / "shop",
        backbone=backbone,
        size=160 if "vit" in backbone else 32,
        weights=folder / "published.safetensors",
    )


def embedder_of(generation: Generation) -> Embedder:
    embedder = generation.embedder()
    assert isinstance(embedder, Embedder)
    return embedder


@pytest.mark.parametrize(("kind", "decay"), [("cnn", 1.0), ("transformer", 0.75)])
def test_the_recipe_follows_the_backbone(kind: str, decay: float, tmp_path: Path) -> None:
    shop = shop_of(tmp_path, TINY[kind])
    size = shop.promoted.preprocessing.size
    assert isinstance(size, int)
    images = coloured_images(classes=4, each=4, size=size)
    learned = shop.learn(images, method=Finetune(), train="all", settings={"epochs": 1, "batch_size": 8})
    settings = learned.card.settings
    assert (settings["normalisation"], settings["optimizer"], settings["layer_decay"]) == ("fixed", "adamw", decay)
    assert settings["epochs"] == 1


def test_statistics_stay_and_weights_do_not(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, TINY["cnn"])
    images = coloured_images(classes=4, each=6, size=32)
    learned = shop.learn(images, method=Finetune(), train="all", settings={"epochs": 1, "batch_size": 8})
    before = embedder_of(shop.generation("v1")).backbone.state_dict()
    after = embedder_of(learned).backbone.state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    moved = [name for name in before if name.endswith("weight") and not torch.equal(before[name], after[name])]
    assert moved


def test_only_the_last_stage_learns_where_it_is_asked_for(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, TINY["cnn"])
    images = coloured_images(classes=4, each=6, size=32)
    learned = shop.learn(images, method=Finetune(), train="last-stage", settings={"epochs": 1, "batch_size": 8})
    before = embedder_of(shop.generation("v1")).backbone.state_dict()
    after = embedder_of(learned).backbone.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in changed)


def test_rates_rise_and_fall() -> None:
    settings = Settings.of("finetune", warmup=0.2)
    rates = [settings.rate(step / 100) for step in range(100)]
    assert rates[0] == 0
    assert max(rates) <= settings.learning_rate
    assert rates.index(max(rates)) == 20
    assert rates == sorted(rates[:21]) + sorted(rates[21:], reverse=True)


def test_crops_and_colours_change_pixels_and_keep_their_form() -> None:
    images = torch.randint(0, 256, (6, 3, 24, 24), dtype=torch.uint8)
    settings = Settings(crop=0.4, colour=0.3, padding=0, flip=False)
    made = augment(images, settings, torch.Generator().manual_seed(0), 24, Preprocessing(size=24))
    again = augment(images, settings, torch.Generator().manual_seed(0), 24, Preprocessing(size=24))
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert torch.equal(made, again)
    assert (made.int() - images.int()).abs().float().mean() > 5


def test_biases_may_learn_faster_than_the_weights_beside_them(tmp_path: Path) -> None:
    """A step of Adam is as long as its rate: twice that of weights, in each group of layers."""
    images = coloured_images(classes=4, each=6, size=32)
    moved = {}
    for times in (1.0, 2.0):
        given = {
            "epochs": 1, "steps": 1, "batch_size": 8, "precision": "float32", "device": "cpu", "optimizer": "adam",
            "schedule": "constant", "warmup": 0.0, "backbone_rate": 1.0, "weight_decay": 0.0, "bias_rate": times,
        }  # fmt: skip
        folder = tmp_path / str(times)
        folder.mkdir()
        shop = shop_of(folder, TINY["cnn"])
        learned = shop.learn(images, method=Finetune(), train="all", settings=given)
        before, after = (embedder_of(one).backbone.state_dict() for one in (shop.generation("v1"), learned))
        moved[times] = {name: float((after[name] - before[name]).float().abs().max()) for name in before}
    for name, distance in moved[1.0].items():
        assert moved[2.0][name] == pytest.approx(distance * (2 if name.endswith("bias") else 1), rel=1e-3), name

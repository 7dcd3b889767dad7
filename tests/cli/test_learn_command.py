"""``evergallery learn``: every setting is an option, and one that cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import coloured_images, evergallery
from evergallery.training import Settings

GIVEN: dict[str, Any] = {
    "train": "all", "views": 1, "normalisation": "fixed", "epochs": 9, "steps": 3, "batch_size": 8, "accumulate": 2,
    "images_per_class": 2, "learning_rate": 0.01, "schedule": "cosine", "warmup": 0.1, "backbone_rate": 0.5,
    "layer_decay": 0.9, "optimizer": "sgd", "weight_decay": 0.0, "clip_norm": 2.5, "ema": 0.5, "crop": 0.9, "padding": 1,
    "colour": 0.1, "erase": 0.2, "start_size": 12, "validation_fraction": 0.25, "select": "balanced",
    "precision": "float32", "device": "cpu", "init_seed": 1, "data_seed": 2, "validation_seed": 3, "flip": False,
    "compile": False, "epoch": "classes", "last_batch": True, "border": "zero", "milestones": [0.5, 0.75],
    "warmup_start": 0.2, "label_smoothing": 0.1, "bias_rate": 1.5, "erase_colour": [152, 142, 127],
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four classes of twelve, in a file."""
    some = coloured_images(4)
    pixels = some.batch(np.arange(len(some))).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.array(some.classes)[some.labels])
    evergallery("init", tmp_path / "shop", "--backbone", "resnet8", "--size", 16)
    return tmp_path / "images.npz"


def option(name: str, value: object) -> list[str]:
    words = name.replace("_", "-")
    if isinstance(value, list):
        return [word for part in value for word in option(name, part)]
    if value is True:
        return [f"--{words}"]
    return [f"--no-{words}"] if value is False else [f"--{words}", str(value)]


def test_every_setting_is_an_option(images: Path) -> None:
    shop = images.parent / "shop"
    assert set(GIVEN) == set(Settings.model_fields)
    words = [word for given in GIVEN.items() for word in option(*given)]
    card = json.loads(evergallery("learn", images, "-w", shop, *words, "--json").stdout)
    assert card["settings"] == GIVEN
    assert card["training"]["images_seen"] == 3 * 8


def test_learning_the_same_network_again_is_said(images: Path) -> None:
    shop = images.parent / "shop"
    words = ("-w", shop, "--method", "finetune", "--epochs", 1, "--device", "cpu")
    evergallery("learn", images, *words)
    assert "same network" not in evergallery("learn", images, *words, "--parent", "v1").stdout
    assert "v3 is the same network as v2." in evergallery("learn", images, *words, "--parent", "v1").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--optimizer", "adams"), ("--steps", "0"), ("--ema", "1"), ("--accumulate", "0"), ("--data-seed", "-1"),
        ("--init-seed", str(2**63)),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(words: tuple[str, str], images: Path) -> None:
    refused = evergallery("learn", images, "-w", images.parent / "shop", *words, expect=2)
    assert words[0] in refused.stderr

"""How to learn is decided once, from what is asked for and from what the run begins on."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import coloured_images
from evergallery import Workspace
from evergallery.errors import InputError
from evergallery.files import sha256_of
from evergallery.learning.decision import StartingPoint, decide
from evergallery.learning.networks import start_network
from evergallery.learning.request import InitialWeights, NetworkChanges, Request
from evergallery.learning.run import Run
from evergallery.methods import CSD, DualTuning, Evergreen, Finetune, Joint, Method, Mutual
from evergallery.network import Architecture, Embedder, Neck, build_backbone
from evergallery.network.relatives import vectors_between
from evergallery.training import Settings

TINY = "test_resnet.r160_in1k"
SIZE = 32


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("pretrained")
    save_file(build_backbone(TINY, seed=5).module.state_dict(), folder / "published.safetensors")
    return Workspace.create(folder / "shop", backbone=TINY, size=SIZE, weights=folder / "published.safetensors")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    shop = Workspace.create(tmp_path_factory.mktemp("scratch") / "shop", backbone="resnet8", size=16)
    shop.learn(coloured_images(3, each=4), settings={"epochs": 1, "batch_size": 8})
    return shop


def decided(
    shop: Workspace,
    *,
    backbone: str | None = None,
    dim: int | None = None,
    neck: Neck | None = None,
    weights: Path | None = None,
    from_scratch: bool = False,
    **asked: Any,
) -> Run:
    beginning = InitialWeights.of(pretrained=False, from_scratch=from_scratch, file=weights, supporting_file=None)
    request = Request(network=NetworkChanges(backbone, dim, neck), weights=beginning, **asked)
    return decide(request, StartingPoint.of(shop.promoted, shop.holdings.state), 2, shop.directory)


def test_a_file_of_weights_is_read_once_and_its_hash_is_of_that_reading(pretrained: Workspace, tmp_path: Path) -> None:
    network = build_backbone(TINY, seed=7).module
    save_file(network.state_dict(), tmp_path / "ours.safetensors")
    run = decided(pretrained, weights=tmp_path / "ours.safetensors")
    asked = run.asked()
    assert asked["weights"] == sha256_of(tmp_path / "ours.safetensors")
    (tmp_path / "ours.safetensors").write_bytes(b"replaced")
    assert run.asked() == asked
    started = start_network(run, 2).embedder.backbone.state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in network.state_dict().items())


class TestRefused:
    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            ({"head": "foo"}, "head = 'foo' is not usable: it is one of .*cosine"),
            ({"neck": "foo"}, "neck = 'foo' is not usable: it is one of .*unit-linear"),
            ({"train": "foo"}, "train = 'foo' is not usable: it is one of neck, last-stage"),
            ({"settings": {"precision": "int8"}}, "--precision 'int8' .*'bf16'"),
            ({"settings": {"epoch_count": 3}}, "--epoch-count 3 .*none of that name"),
            ({"dim": 0}, "--dim 0 .*at least 2"),
            ({"dim": -5}, "--dim -5 .*at least 2"),
            ({"backbone": ""}, "backbone = '' is not usable: it is empty"),
            ({"pretrained": True}, "resnet8 has no published weights: leave --pretrained out"),
            ({"method": Mutual(supporting="pretrained")}, "resnet8 has no published weights: leave --pretrained out"),
            ({"weights": "nonexistent"}, "no file nonexistent with weights"),
            ({"supporting_weights": "nonexistent"}, "no file nonexistent with weights"),
            ({"weights": "."}, "There is no file"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_read(
        self, asked: dict[str, Any], says: str, scratch: Workspace, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=says):
            scratch.learn(tmp_path / "no images", **asked)

    @pytest.mark.parametrize("name", ["empty.pt", "empty.safetensors"])
    @pytest.mark.parametrize("which", ["weights", "supporting_weights"])
    def test_an_empty_file_of_weights(self, which: str, name: str, scratch: Workspace, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"")
        asked: dict[str, Any] = {which: str(tmp_path / name)}
        with pytest.raises(InputError, match=f"{name} cannot be read as weights"):
            scratch.learn(tmp_path / "no images", **asked)

    @pytest.mark.parametrize("method", [None, Finetune(), Mutual()])
    def test_weights_of_a_second_network_that_there_is_not(
        self, method: Method | None, pretrained: Workspace, tmp_path: Path
    ) -> None:
        save_file(build_backbone(TINY, seed=7).module.state_dict(), tmp_path / "second.safetensors")
        with pytest.raises(InputError, match="--supporting-weights belongs to a second network that begins with publi"):
            pretrained.learn(tmp_path / "no images", method=method, supporting_weights=tmp_path / "second.safetensors")

    def test_settings_of_steps_where_the_neck_is_solved(self, pretrained: Workspace) -> None:
        with pytest.raises(
            InputError, match="^--epochs and --images-per-class would change nothing, because evergreen solv"
        ):
            decided(pretrained, settings={"views": 2, "epochs": 3, "images_per_class": 4})
        assert decided(pretrained, settings={"views": 2, "data_seed": 1}).solves
        assert decided(pretrained, settings=Settings.neck(epochs=3)).solves, "a whole recipe names what others need"
        assert not decided(pretrained, settings={"epochs": 3}, method=Finetune()).solves
        assert not decided(pretrained, settings={"epochs": 3}, train="last-stage").solves

    def test_settings_by_themselves(self) -> None:
        makers: list[Callable[..., Settings]] = [Settings, Settings.update]
        for made in makers:
            with pytest.raises(InputError, match="^--epochs 0 is not usable: it has to be at least 1.$"):
                made(epochs=0)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ({"learning_rate": float("inf")}, "--learning-rate inf is not usable: it has to be a finite number."),
            ({"epochs": "many"}, "--epochs 'many' is not usable: it has to be a whole number."),
            ({"epochs": 1.5}, "--epochs 1.5 is not usable: it has to be a whole number."),
            ({"epochs": True}, "--epochs True is not usable: it has to be a whole number."),
            ({"flip": "perhaps"}, "--flip 'perhaps' is not usable: it has to be true or false."),
            ({"learning_rate": "fast"}, "--learning-rate 'fast' is not usable: it has to be a number."),
            ({"device": "tpu"}, "--device 'tpu' is not usable: it is auto, cpu, cuda or cuda:N."),
        ],
    )
    def test_a_wrong_setting_says_in_one_wording_what_it_has_to_be(self, value: dict[str, Any], says: str) -> None:
        with pytest.raises(InputError, match=f"^{re.escape(says)}$"):
            Settings.model_validate(value)

    def test_settings_are_made_and_not_changed(self) -> None:
        settings: Any = Settings()
        with pytest.raises(
            InputError, match=r"^Settings are not changed: make new ones, such as Settings\(epochs=3\)\.$"
        ):
            settings.epochs = 3
        with pytest.raises(InputError, match="No recipe is called 'fast': choose one of scratch, update, neck"):
            Settings.of(cast("Any", "fast"))
        with pytest.raises(InputError, match="logit_weight=True is not usable for 'csd': it has to be a number"):
            CSD(logit_weight=True)


class TestFromScratch:
    @pytest.mark.parametrize("backbone", [None, "resnet8"])
    def test_an_update_goes_on_gently(self, backbone: str | None, scratch: Workspace) -> None:
        run = decided(scratch, backbone=backbone)
        assert (run.beginning, run.method) == ("parent", Evergreen())
        assert run.settings == Settings.update(train="all")

    @pytest.mark.parametrize(
        "asked",
        [{"from_scratch": True}, {"backbone": "resnet32"}, {"dim": 32}, {"method": Joint(), "old_images": True}],
    )
    def test_what_begins_anew_learns_as_long_as_a_first_one(self, asked: dict[str, Any], scratch: Workspace) -> None:
        run = decided(scratch, **asked)
        assert run.beginning == "scratch"
        assert run.settings == Settings(train="all")

    def test_what_is_given_stays(self, scratch: Workspace) -> None:
        run = decided(scratch, settings={"epochs": 3})
        assert run.settings == Settings.update(epochs=3, train="all")
        assert decided(scratch, settings=Settings(epochs=3)).settings.learning_rate == Settings().learning_rate


class TestPretrained:
    @pytest.mark.parametrize(("neck", "beginning"), [(None, "parent"), ("mlp", "parent"), ("linear", "scratch")])
    def test_a_neck_goes_on_where_it_begins_as_the_identity(
        self, neck: Neck | None, beginning: str, pretrained: Workspace
    ) -> None:
        run = decided(pretrained, neck=neck, method=Finetune())
        assert (run.settings.train, run.architecture.neck) == ("neck", neck or "unit-linear")
        assert run.beginning == beginning
        assert run.settings == Settings.neck()

    def test_only_a_linear_neck_is_solved(self, pretrained: Workspace) -> None:
        assert decided(pretrained).solves
        assert not decided(pretrained, neck="mlp").solves
        assert not decided(pretrained, method=Finetune()).solves

    def test_a_residual_neck_learns_from_where_the_network_was(self, pretrained: Workspace) -> None:
        bare, residual = Embedder(Architecture(backbone=TINY)), Embedder(Architecture(backbone=TINY, neck="mlp"))
        images = torch.rand(3, 3, SIZE, SIZE)
        with torch.no_grad():
            torch.testing.assert_close(residual.eval().embed(images), bare.eval().embed(images))
        learned = pretrained.learn(
            coloured_images(4, each=6, size=SIZE),
            method=DualTuning(),
            neck="mlp",
            settings={"epochs": 8, "batch_size": 8, "learning_rate": 1e-2},
        )
        again = pretrained.learn(
            coloured_images(2, each=6, size=SIZE, first=4), parent=learned.name, settings={"epochs": 1}
        )
        assert again.architecture.neck == "mlp"
        shown = coloured_images(4, each=3, size=SIZE, seed=3)
        first, second = (pretrained.generation(name) for name in ("v1", learned.name))
        ends = [(cast(Embedder, generation.embedder()), generation.preprocessing) for generation in (first, second)]
        between = vectors_between(*ends)
        assert between is not None
        old, wanted = (pretrained.extract(generation, shown, keep=False) for generation in (first, second))
        assert (between(old) * wanted).sum(1).min() > 0.9999
        assert (old * wanted).sum(1).min() < 0.9999, "it has learned something"
        assert vectors_between(*ends[::-1]) is None


def test_a_backbone_that_cannot_take_the_images_is_refused_before_they_are_read(
    scratch: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="vit_tiny_patch16_224 cannot take images of 16 pixels"):
        decided(scratch, backbone="vit_tiny_patch16_224", from_scratch=True)
    with pytest.raises(InputError, match="vit_tiny_patch16_224 cannot take images of 32 pixels"):
        Workspace.create(tmp_path / "shop", backbone="vit_tiny_patch16_224", size=32)
    assert not (tmp_path / "shop").exists()


def test_a_shift_that_leaves_nothing_of_an_image_is_refused(scratch: Workspace, pretrained: Workspace) -> None:
    for settings in ({"padding": 16}, {"padding": 8, "start_size": 8}):
        with pytest.raises(InputError, match=r"A random shift by \d+ pixels leaves nothing of images"):
            decided(scratch, settings=settings)
    decided(scratch, settings={"padding": 15})
    decided(scratch, settings={"padding": 16, "crop": 0.5})
    decided(pretrained, settings={"padding": 500})  # A frozen backbone sees images as they are.


class TestIdentity:
    def test_settings_that_came_later_do_not_change_a_run_that_waits(self) -> None:
        before = {
            "train", "views", "epochs", "batch_size", "images_per_class", "learning_rate", "schedule", "optimizer",
            "weight_decay", "clip_norm", "backbone_rate", "layer_decay", "warmup", "normalisation", "precision", "crop",
            "colour", "padding", "flip", "erase", "start_size", "validation_fraction", "select", "init_seed", "data_seed",
            "validation_seed",
        }  # fmt: skip
        assert set(Settings(device="cpu", compile=True).identity()) == before
        assert set(Settings(steps=9, ema=0.5, accumulate=2).identity()) == before | {"steps", "ema", "accumulate"}

    def test_it_follows_from_what_is_asked_for_and_from_the_images(self, scratch: Workspace, tmp_path: Path) -> None:
        images = coloured_images(3, each=4, first=3)
        same, other = decided(scratch, settings={"epochs": 3}), decided(scratch, settings={"epochs": 4})
        data = {"images": len(images)}
        assert same.identity(images, data) == decided(scratch, settings={"epochs": 3}).identity(images, data)
        assert same.identity(images, data) != other.identity(images, data)
        assert same.identity(images, data) != same.identity(images.select(np.array([*range(1, 12), 0])), data)

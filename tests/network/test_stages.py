"""Groups of layers: nothing is left out, and the last stage is the last."""

import pytest
import torch

from evergallery.network import build_backbone
from evergallery.network.stages import freeze_below_last_stage, layer_groups

BACKBONES = [
    "resnet20",
    "test_resnet.r160_in1k",
    "test_vit.r160_in1k",
    "test_convnext.r160_in1k",
    "torchvision/resnet18",
]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("coarse", [False, True])
def test_every_parameter_is_in_one_group(name: str, coarse: bool) -> None:
    module = build_backbone(name, seed=0).module
    groups = layer_groups(module, coarse=coarse)
    assert len(groups) > 2
    numbers = [id(parameter) for group in groups for parameter in group]
    assert sorted(numbers) == sorted(map(id, module.parameters()))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_stage_learns_and_the_first_layer_does_not(name: str) -> None:
    module = build_backbone(name, seed=0).module
    freeze_below_last_stage(module)
    learning = [parameter.requires_grad for parameter in module.parameters()]
    assert not learning[0]
    assert any(learning)
    assert (
        0
        < sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        < sum(parameter.numel() for parameter in module.parameters())
    )
    module.train()(torch.rand(2, 3, 64, 64)).sum().backward()

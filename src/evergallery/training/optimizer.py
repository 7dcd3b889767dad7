"""The parameters that learn, and how fast each of them."""

from typing import Any

import torch
from torch import nn

from evergallery.network import Network
from evergallery.network.stages import layer_groups
from evergallery.training.settings import Settings


def parameters_of(network: nn.Module, state: nn.Module | None) -> list[nn.Parameter]:
    """Return what learns of a network and of what a method keeps beside it."""
    modules = (network,) if state is None else (network, state)
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def optimizer_of(network: Network, state: nn.Module | None, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser, with a group for each rate: ``share`` of a group is its part of the rate of new layers' weights."""
    backbone = layer_groups(network.embedder.backbone)
    of_backbone = {id(parameter) for group in backbone for parameter in group}
    new = [parameter for parameter in parameters_of(network, state) if id(parameter) not in of_backbone]
    shares = [settings.backbone_rate * settings.layer_decay ** (len(backbone) - 1 - i) for i in range(len(backbone))]
    modules = (network,) if state is None else (network, state)
    biases = {
        id(parameter) for module in modules for name, parameter in module.named_parameters() if name.endswith("bias")
    }
    # As few groups as there are rates: the optimiser does each by itself.
    by_share: dict[float, list[nn.Parameter]] = {1.0: []}
    for group, share in zip([new, *backbone], [1.0, *shares], strict=True):
        for parameter in group:
            if parameter.requires_grad:
                rate = share * settings.bias_rate if id(parameter) in biases else share
                by_share.setdefault(rate, []).append(parameter)
    groups = [{"params": learning, "share": share} for share, learning in by_share.items() if learning]
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, **common)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, **common)
    return torch.optim.SGD(groups, momentum=0.9, **common)

"""Backbones: the CIFAR ResNets of He et al. 2016, section 4.2, and every timm model by its name."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError

CIFAR_DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
"""CIFAR ResNets by name, with the number of basic blocks in each of their three stages."""

CIFAR_WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a parameter-free shortcut (option A: strided subsampling, zero channels)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.normalisation1 = nn.BatchNorm2d(channels)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.normalisation2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.missing_channels = channels - channels_in

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        shortcut = images
        if self.stride != 1 or self.missing_channels:
            shortcut = images[:, :, :: self.stride, :: self.stride]
            before = self.missing_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.missing_channels - before))
        inner = F.relu(self.normalisation1(self.convolution1(images)))
        return F.relu(self.normalisation2(self.convolution2(inner)) + shortcut)


class CifarResNet(nn.Module):
    """ResNet-20/32/44/56 for small images; the feature is the 64-d average-pooled output of the last ReLU."""

    def __init__(self, blocks_per_stage: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CIFAR_WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CIFAR_WIDTHS[0]), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        channels_in = CIFAR_WIDTHS[0]
        for stage, channels in enumerate(CIFAR_WIDTHS):
            for block in range(blocks_per_stage):
                blocks.append(BasicBlock(channels_in, channels, stride=2 if stage and not block else 1))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 64), non-negative."""
        maps: Tensor = self.blocks(self.stem(images))
        return maps.mean(dim=(2, 3))


@dataclass(frozen=True)
class Backbone:
    """A backbone with the width of its features and the input that it was made for."""

    module: nn.Module
    width: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def build_backbone(name: str, *, pretrained: bool = False, seed: int | None = None) -> Backbone:
    """Build a backbone by name: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, or any timm model.

    The module maps images ``(B, 3, H, W)`` to pooled features ``(B, width)``. ``size``, ``mean`` and ``std`` are the
    preprocessing it expects (timm's own for timm models, CIFAR-100's channel statistics for the CIFAR ResNets).

    Args:
        name: the model.
        pretrained: load published weights (timm models only).
        seed: of the initial weights; the global random state is left as it was. ``None`` draws from that state.

    Raises:
        InputError: no such model, no pretrained weights for it, or the weights cannot be fetched.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if name in CIFAR_DEPTHS:
            if pretrained:
                raise InputError(f"{name} has no pretrained weights: drop --pretrained or choose a timm model.")
            module = CifarResNet(CIFAR_DEPTHS[name])
            # CIFAR-100's statistics, as CSD's code normalises.
            return Backbone(module, CIFAR_WIDTHS[-1], 32, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
        return _timm_backbone(name, pretrained)


def _timm_backbone(name: str, pretrained: bool) -> Backbone:
    # timm takes seconds to import and the CIFAR networks do not need it.
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise InputError(f"No backbone is called {name!r}: use {', '.join(CIFAR_DEPTHS)} or a timm model{hint}.")
    try:
        module: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:
        if not pretrained:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The pretrained weights of {name} could not be loaded ({reason}): connect to the model hub, put the weights "
            f"into its local cache (HF_HOME), or learn from scratch without --pretrained."
        ) from error
    config: dict[str, Any] = module.pretrained_cfg
    return Backbone(
        module, int(module.num_features), int(config["input_size"][-1]), tuple(config["mean"]), tuple(config["std"])
    )

"""BN-Inception (Ioffe and Szegedy 2015), the backbone of much of deep metric learning, as its Caffe model has it.

Layers bear the names of that model, so that a file of its published weights fits. It takes the channels of an image in the order
blue, green, red and in 0 … 255, less their mean; here images come as everywhere else, and the first thing it does is turn them.

Deep metric learning takes the maximum of each of its last maps (FECD and mutual distillation, whose code is public), where the
published network takes their average.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "bn-inception"
MAX_POOLED = "bn-inception-max"
"""Name of the network whose feature is the maximum of each of its last maps."""
WIDTH = 1024
SIZE = 224
MEAN = (128 / 255, 117 / 255, 104 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)


@dataclass(frozen=True)
class Block:
    """Channels of one inception block; ``single`` is 0 where it halves the resolution and lets the pooled input through.

    Attributes:
        single: of the 1×1 branch.
        triple: of the reduction and the 3×3 convolution after it.
        double: of the reduction and the two 3×3 convolutions after it.
        pooled: of the projection after the pooling.
        pooling: average or maximum.
    """

    single: int
    triple: tuple[int, int]
    double: tuple[int, int]
    pooled: int = 0
    pooling: str = "average"

    def out(self, channels_in: int) -> int:
        """Channels of its output."""
        return self.single + self.triple[1] + self.double[1] + (self.pooled or channels_in)


BLOCKS: dict[str, Block] = {
    "3a": Block(64, (64, 64), (64, 96), 32),
    "3b": Block(64, (64, 96), (64, 96), 64),
    "3c": Block(0, (128, 160), (64, 96)),
    "4a": Block(224, (64, 96), (96, 128), 128),
    "4b": Block(192, (96, 128), (96, 128), 128),
    "4c": Block(160, (128, 160), (128, 160), 128),
    "4d": Block(96, (128, 192), (160, 192), 128),
    "4e": Block(0, (128, 192), (192, 256)),
    "5a": Block(352, (192, 320), (160, 224), 128),
    "5b": Block(352, (192, 320), (192, 224), 128, "maximum"),
}


class BNInception(nn.Module):
    """The network without its classifier; the feature is the 1 024-d average, or maximum, of its last maps.

    Args:
        max_pooled: whether it is the maximum.
    """

    def __init__(self, *, max_pooled: bool = False) -> None:
        super().__init__()
        self.max_pooled = max_pooled
        self._add("conv1_7x7_s2", 3, 64, 7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        channels = 192
        for name, block in BLOCKS.items():
            stride = 1 if block.single else 2
            if block.single:
                self._add(f"inception_{name}_1x1", channels, block.single, 1)
            self._add(f"inception_{name}_3x3_reduce", channels, block.triple[0], 1)
            self._add(f"inception_{name}_3x3", *block.triple, 3, stride=stride)
            self._add(f"inception_{name}_double_3x3_reduce", channels, block.double[0], 1)
            self._add(f"inception_{name}_double_3x3_1", *block.double, 3)
            self._add(f"inception_{name}_double_3x3_2", block.double[1], block.double[1], 3, stride=stride)
            if block.pooled:
                self._add(f"inception_{name}_pool_proj", channels, block.pooled, 1)
            channels = block.out(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 1024), non-negative."""
        maps = self._run("conv1_7x7_s2", images.flip(1))
        maps = self._run("conv2_3x3", self._run("conv2_3x3_reduce", _halved(maps)))
        maps = _halved(maps)
        for name, block in BLOCKS.items():
            maps = self._block(f"inception_{name}", block, maps)
        return maps.amax((2, 3)) if self.max_pooled else maps.mean((2, 3))

    def _block(self, name: str, block: Block, maps: Tensor) -> Tensor:
        triple = self._run(f"{name}_3x3", self._run(f"{name}_3x3_reduce", maps))
        double = self._run(f"{name}_double_3x3_1", self._run(f"{name}_double_3x3_reduce", maps))
        double = self._run(f"{name}_double_3x3_2", double)
        if not block.single:
            return torch.cat([triple, double, _halved(maps)], 1)
        pool = F.avg_pool2d if block.pooling == "average" else F.max_pool2d
        pooled = pool(maps, 3, 1, padding=1)
        return torch.cat([self._run(f"{name}_1x1", maps), triple, double, self._run(f"{name}_pool_proj", pooled)], 1)

    def _add(self, name: str, channels_in: int, channels: int, kernel: int, *, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def _run(self, name: str, maps: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(maps))
        return F.relu(found)


def _halved(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3, 2, ceil_mode=True)

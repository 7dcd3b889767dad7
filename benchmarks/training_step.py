"""One step of CSD with a teacher, taken apart: what each change of the plain recipe brings, and one that was not made.

The same batch, network and teacher for all; steps of all are timed in turn. Random pixels: only time is measured here.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common import record
from evergallery.data.augment import normalise
from evergallery.methods import CSD, Step
from evergallery.network import Architecture, Embedder, Head, Network, Outputs
from evergallery.network.backbones import BasicBlock, CifarResNet

BATCH, OLD, ALL = 128, 50, 100
WARM_UP = 2
PARTS = ("teacher", "forward and losses", "backward", "optimizer")


@dataclass
class Variant:
    """One way to take the step."""

    through: bool = False
    """Gradients through the teacher."""
    channels_last: bool = True
    bf16: bool = True
    in_place: bool = True
    fused: bool = True
    """The optimizer in one kernel, rather than in one for each operation over all tensors."""
    folded: bool = False
    """The teacher's batch norms are part of its convolutions."""
    seconds: list[tuple[float, ...]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network, self.teacher = (_network(classes).to(memory_format=form) for classes in (ALL, OLD))
        self.teacher.eval().requires_grad_(self.through)
        if self.folded:
            _fold(self.teacher)
        parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=self.fused, foreach=not self.fused)
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=draw)
        self.pixels = pixels.contiguous(memory_format=form)
        self.labels = torch.randint(OLD, ALL, (BATCH,), generator=draw)

    def step(self) -> None:
        """One step, timed."""
        BasicBlock.forward = _in_place if self.in_place else _out_of_place  # type: ignore[assignment, method-assign]
        at = [time.perf_counter()]
        inputs = normalise(self.pixels, (0.5,) * 3, (0.25,) * 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            with torch.set_grad_enabled(self.through):
                old = Outputs(*(output.float() for output in self.teacher(inputs)))
            at.append(time.perf_counter())
            new = Outputs(*(output.float() for output in self.network(inputs)))
        losses = CSD().losses(
            Step(self.labels, new, old, head=self.network.head, state=None, old_head=self.teacher.head)
        )
        at.append(time.perf_counter())
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        at.append(time.perf_counter())
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        at.append(time.perf_counter())
        self.seconds.append((at[-1] - at[0], *(b - a for a, b in itertools.pairwise(at))))


_in_place: Callable[[BasicBlock, Tensor], Tensor] = BasicBlock.forward


def _out_of_place(block: BasicBlock, images: Tensor) -> Tensor:
    shortcut = images
    if block.stride != 1 or block.missing_channels:
        shortcut = images[:, :, :: block.stride, :: block.stride]
        before = block.missing_channels // 2
        shortcut = F.pad(shortcut, (0, 0, 0, 0, before, block.missing_channels - before))
    inner = F.relu(block.normalisation1(block.convolution1(images)))
    return F.relu(block.normalisation2(block.convolution2(inner)) + shortcut)


def _network(classes: int) -> Network:
    embedder = Embedder(Architecture(backbone="resnet32"))
    return Network(embedder, Head(embedder.dimension, 0).grow(classes, 0))


def _fold(network: Network) -> None:
    for module in list(network.modules()):
        if isinstance(module, BasicBlock):
            module.convolution1 = fuse_conv_bn_eval(module.convolution1, module.normalisation1)
            module.convolution2 = fuse_conv_bn_eval(module.convolution2, module.normalisation2)
            module.normalisation1 = module.normalisation2 = nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, CifarResNet):
            module.stem[0] = fuse_conv_bn_eval(module.stem[0], module.stem[1])  # type: ignore[arg-type, type-var]
            module.stem[1] = nn.Identity()
    network.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats: int = parser.parse_args().repeats
    bare: dict[str, Any] = {"channels_last": False, "bf16": False, "in_place": False, "fused": False}
    variants = {
        "plain, gradients through the teacher": Variant(through=True, **bare),
        "plain": Variant(**bare),
        "channels last": Variant(**bare | {"channels_last": True}),
        "bf16": Variant(**bare | {"bf16": True}),
        "channels last, bf16": Variant(in_place=False, fused=False),
        "ReLU in place too": Variant(fused=False),
        "fused optimizer too (as it is)": Variant(),
        "batch norm folded into the teacher too": Variant(folded=True),
    }
    for _ in range(WARM_UP + repeats):
        for variant in variants.values():
            variant.step()
    first = next(iter(variants.values())).seconds[WARM_UP:]
    told = {}
    for name, variant in variants.items():
        kept = variant.seconds[WARM_UP:]
        medians = [round(1000 * statistics.median(part), 1) for part in zip(*kept, strict=True)]
        ratios = sorted(a[0] / b[0] for a, b in zip(first, kept, strict=True))
        told[name] = {
            "ms": medians[0],
            **{f"{part}, ms": ms for part, ms in zip(PARTS, medians[1:], strict=True)},
            "times the first": round(statistics.median(ratios), 2),
            "middle half of the ratios": [round(ratios[len(ratios) // 4], 2), round(ratios[3 * len(ratios) // 4], 2)],
        }
    record("training_step", {"network": "resnet32, 32 x 32, batch 128", "variants": told}, seed=0)


if __name__ == "__main__":
    main()

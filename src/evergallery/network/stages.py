"""The layers of a backbone in groups from its input to its output: what learns, and how fast."""

from typing import Any

from torch import nn

from evergallery.network.backbones import CIFAR_WIDTHS, CifarResNet

STAGES = len(CIFAR_WIDTHS)


def layer_groups(backbone: nn.Module, *, coarse: bool = False) -> list[list[nn.Parameter]]:
    """The parameters of a backbone in groups, the input's first.

    timm's models say themselves how their layers belong together; of others each child is a group, and of a sequence of
    layers each layer.

    Args:
        backbone: as ``build_backbone`` makes it.
        coarse: whole stages, rather than single blocks where the model tells them apart.
    """
    if isinstance(backbone, CifarResNet):
        blocks = list(backbone.blocks)
        each = len(blocks) // STAGES if coarse else 1
        parts: list[list[nn.Module]] = [[backbone.stem]]
        parts += [blocks[start : start + each] for start in range(0, len(blocks), each)]
        return [[parameter for module in part for parameter in module.parameters()] for part in parts]
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is not None:
        from timm.models import group_parameters

        named = dict(backbone.named_parameters())
        groups = group_parameters(backbone, matcher(coarse=coarse), reverse=False)
        return [[named[name] for name in names] for _, names in sorted(groups.items())]
    children = [
        part for child in backbone.children() for part in (child if isinstance(child, nn.Sequential) else (child,))
    ]
    return [list(child.parameters()) for child in children if any(True for _ in child.parameters())]


def freeze_below_last_stage(backbone: nn.Module) -> None:
    """Let only the last stage learn, and the normalisation behind it."""
    groups = layer_groups(backbone, coarse=True)
    # What comes behind the last matrix belongs to it.
    last = max(index for index, group in enumerate(groups) if any(parameter.ndim > 1 for parameter in group))
    for group in groups[:last]:
        for parameter in group:
            parameter.requires_grad_(False)

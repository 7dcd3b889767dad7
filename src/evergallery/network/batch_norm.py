"""Batch normalisation over the batch of all ranks.

PyTorch's own ``SyncBatchNorm`` runs on GPUs only. This one runs wherever ranks can add up, so that what is tested is what runs.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evergallery.network.ranks import Ranks


def synchronise(network: nn.Module, ranks: Ranks) -> None:
    """Let every batch normalisation in a network learn from the batches of all ranks; weights and their names stay."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            own = type(module)
            module.__class__ = type(own.__name__, (_SynchronisedBatchNorm, own), {"ranks": ranks})


class _SynchronisedBatchNorm(_BatchNorm):
    """The class that a layer takes in place of its own; timm's layers have a dropout and an activation in them."""

    ranks: Ranks

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            evaluated: Tensor = super().forward(input)
            return evaluated
        normalised = normalise_together(input, self, self.ranks)
        for name in ("drop", "act"):
            then = getattr(self, name, None)
            normalised = normalised if then is None else then(normalised)
        return normalised


def normalise_together(inputs: Tensor, layer: _BatchNorm, ranks: Ranks) -> Tensor:
    """Normalise this rank's part (n, C, …) of a batch by mean and variance (C,) of the whole, and update the running ones."""
    axes = [0, *range(2, inputs.ndim)]
    shape = (1, -1, *(1,) * (inputs.ndim - 2))
    values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    count = ranks.total(torch.tensor(float(values.numel() // values.shape[1]), device=values.device))
    mean = ranks.total(values.sum(axes)) / count
    centred = values - mean.view(shape)
    variance = ranks.total(centred.square().sum(axes)) / count
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, share)
            layer.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
    scale = torch.rsqrt(variance + layer.eps)
    if layer.affine:
        scale = scale * layer.weight
    normalised = centred * scale.view(shape)
    if layer.affine:
        normalised = normalised + layer.bias.view(shape)
    return normalised.to(inputs.dtype)

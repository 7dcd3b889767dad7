"""Averages of weights: of two networks, and over the steps of a run."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_weights(new: nn.Module, old: nn.Module, share: float) -> None:
    """Set every weight and batch statistic of ``new`` to ``share · new + (1 - share) · old`` (WiSE-FT, Wortsman et al. 2022).

    Args:
        new: changed in place.
        old: of the same architecture.
        share: in [0, 1].
    """
    before = old.state_dict()
    with torch.no_grad():
        for name, tensor in new.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(before[name].to(tensor), 1 - share)


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights and batch statistics, updated after each step.

    ``average ← d · average + (1 - d) · network`` with ``d = min(decay, (1 + t) / (10 + t))`` after t steps, so that a short run
    is not an average with where it began.

    Args:
        network: not changed.
        decay: in [0, 1).
    """

    def averaged(average: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        share = torch.as_tensor((1 + steps) / (10 + steps), device=average.device).clamp(max=decay)
        return torch.lerp(average, current, (1 - share).to(average))

    return AveragedModel(network, avg_fn=averaged, use_buffers=True)

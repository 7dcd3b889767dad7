"""Gradient reversal (Ganin and Lempitsky 2015): what trains a discriminator trains the features against it."""

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None


def reverse_gradient(values: Tensor, strength: float = 1.0) -> Tensor:
    """The values as they are, whose gradient is multiplied by ``-strength``."""
    reversed_: Tensor = _Reversal.apply(values, strength)
    return reversed_

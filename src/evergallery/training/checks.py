"""Checks that stop a run: losses and weights that are not finite, and a device that fails."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from evergallery.errors import TrainingError
from evergallery.training.settings import Settings


def check_losses(means: dict[str, float], epoch: int, step: int, rate: float) -> None:
    """The means of the terms of a loss are numbers.

    Raises:
        TrainingError: one is not.
    """
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss term {name!r} became {value} in epoch {epoch + 1}, step {step + 1}, at learning rate "
                f"{rate:.2g}: lower the learning rate, clip gradients, or train in float32."
            )


def check_weights(network: nn.Module, epoch: int, rate: float) -> None:
    """The weights are numbers, before they are kept.

    A loss may be finite where its gradient is not, and the next step, which would tell, is to come.

    Raises:
        TrainingError: one is not.
    """
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    # Together, because reading from a GPU waits for it.
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise TrainingError(
            f"The weights became not finite in epoch {epoch + 1}, at learning rate {rate:.2g}, though the losses were: the "
            f"checkpoint before is kept; lower the learning rate, or train in float32."
        )


@contextmanager
def device_trouble(settings: Settings, epoch: int) -> Iterator[None]:
    """Say in a sentence what a device does to a run."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"A batch of {settings.batch_size} images does not fit into the device's memory in epoch {epoch + 1}: choose a "
            f"smaller --batch-size, or more processes."
        ) from error
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"The device failed in epoch {epoch + 1} ({reason}): what was done is kept, and the same command goes on from "
            f"there, here or on another device."
        ) from error

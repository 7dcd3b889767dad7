"""Networks on a GPU: products in full float32, and batches that fit into its memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from evergallery.errors import UnavailableError

_EXACT = threading.Lock()
"""The lock of whoever computes exactly: the switches are those of the whole process."""


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32, where a GPU would take TF32 for them, which has ten bits of a number's fraction."""
    if device.type != "cuda":
        yield
        return
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    with _EXACT:
        before = convolutions.allow_tf32, products.allow_tf32
        convolutions.allow_tf32 = products.allow_tf32 = False
        try:
            yield
        finally:
            convolutions.allow_tf32, products.allow_tf32 = before


def in_memory(make: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return what a network makes of a batch (B, …), in halves where the device has no memory for the whole.

    Raises:
        UnavailableError: the device fails, or has no memory for a single image.
    """
    try:
        return make(images)
    except torch.OutOfMemoryError as error:
        if len(images) < 2:
            raise UnavailableError(
                "The GPU has no memory for a single image: end what else fills it, or run the same command on the processor, "
                "with  CUDA_VISIBLE_DEVICES=  before it."
            ) from error
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise UnavailableError(
            f"The GPU failed ({reason}): run the same command again, or on the processor, with  CUDA_VISIBLE_DEVICES=  before "
            f"it."
        ) from error
    torch.cuda.empty_cache()
    halves = images.split((len(images) + 1) // 2)
    return torch.cat([in_memory(make, half) for half in halves])

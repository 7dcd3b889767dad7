"""Networks on a GPU: products in full float32, and batches that fit into its memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from torch import Tensor, nn

from evergallery.errors import UnavailableError

Made = TypeVar("Made")
GPU_LIBRARIES = ("CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error")
"""Parts of the messages of a GPU's libraries when they fail."""

_EXACT = threading.RLock()
"""The lock of whoever computes exactly, and calls what does so too: the switches are those of the whole process."""


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


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Run a module on a device, and leave it on the one that it was on."""
    before = next((parameter.device for parameter in module.parameters()), device)
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


@contextmanager
def gpu_trouble(wanted: str) -> Iterator[None]:
    """Say in a sentence that a GPU is full, or that it fails.

    Args:
        wanted: what it is to have memory for.

    Raises:
        UnavailableError: it is, or does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnavailableError(
            f"The GPU has no memory for {wanted}: end what else fills it, or run the same command on the processor, with  "
            f"CUDA_VISIBLE_DEVICES=  before it."
        ) from error
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        # Its libraries have no error of their own, and fail first where other processes have filled the memory.
        if not isinstance(error, torch.AcceleratorError) and not any(library in reason for library in GPU_LIBRARIES):
            raise
        raise UnavailableError(
            f"The GPU failed ({reason}): run the same command again, or on the processor, with  CUDA_VISIBLE_DEVICES=  before "
            f"it."
        ) from error


def in_memory(make: Callable[[Tensor], Made], images: Tensor) -> list[Made]:
    """Return what is made of a batch (B, …), in order: of the whole, or of parts where the device has no memory for that.

    Args:
        make: brings images to the device and makes something of them.
        images: the batch, wherever it is.

    Raises:
        UnavailableError: the device fails, or has no memory for a single image.
    """
    with gpu_trouble("a single image"):
        if len(images) < 2:
            return [make(images)]
        with suppress(torch.OutOfMemoryError):
            return [make(images)]
    torch.cuda.empty_cache()
    halves = images.split((len(images) + 1) // 2)
    return [made for half in halves for made in in_memory(make, half)]

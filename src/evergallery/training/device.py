"""The device of a run, and what that place is good at."""

import torch

from evergallery.devices.compiling import missing_compiler
from evergallery.errors import InputError
from evergallery.training.settings import Settings


def resolve_device(device: str) -> torch.device:
    """``auto`` to CUDA where there is one, else CPU.

    Raises:
        InputError: a GPU is named and is not there, or the name is of no device.
    """
    device = Settings(device=device).device
    count = torch.cuda.device_count()
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    named = torch.device(device)
    if named.type == "cuda" and (named.index or 0) >= count:
        seen = f"torch sees {count}, counted from 0" if count else "torch sees no GPU here"
        raise InputError(f"There is no device {device!r} ({seen}): leave --device out to use what there is.")
    return named


def check_compiler(settings: Settings) -> None:
    """See that ``settings.compile`` can be had.

    Raises:
        InputError: there is no C++ compiler.
    """
    if settings.compile and missing_compiler():
        raise InputError("--compile needs a C++ compiler, and there is none: install g++, or leave the option out.")


def has_bf16(device: torch.device) -> bool:
    """Return whether bf16 is faster than float32 there, not merely emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private in torch, so its absence means no.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def precision_of(settings: Settings) -> str:
    """The precision that ``settings`` come to on this machine: ``bf16`` or ``float32``."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if has_bf16(resolve_device(settings.device)) else "float32"

"""Large products of tensors on a GPU, where there is one and they are worth it: searches, metrics, and maps between spaces.

The results are the processor's but for the rounding of float32: a score may differ in its last places, so that two items whose
scores differ by less than that may change places. Items of equal vectors keep their order.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from evergallery.devices.choosing import device_for_products
from evergallery.devices.gpu import exact, gpu_trouble
from evergallery.errors import UnavailableError

Given = ParamSpec("Given")
Made = TypeVar("Made")
CPU = torch.device("cpu")

log = logging.getLogger(__name__)


def computed(multiplications: float, work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """Return what ``work`` makes of what it is given, on a GPU where that pays, and here again where the GPU fails or is full.

    Args:
        multiplications: that it takes, about.
        work: a function of tensors, which computes where they are.
        *given: what it is given: tensors of the processor, alone or in dataclasses, tuples and dicts, and anything else.
        **named: the same, by name.

    Returns:
        Tensors of the processor.
    """
    return on(torch.device(device_for_products(multiplications)), work, *given, **named)


def on(device: torch.device, work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """Return what ``work`` makes on a device, as ``computed`` does."""
    if device.type != "cpu":
        try:
            with gpu_trouble("what is to be computed"), exact(device):
                there = moved(given, device), moved(named, device)
                made: Made = moved(work(*there[0], **there[1]), CPU)
                return made
        except UnavailableError as error:
            _say(str(error))
        finally:
            # Another process may want the memory.
            torch.cuda.empty_cache()
    return work(*given, **named)


def moved(value: Any, device: torch.device) -> Any:
    """A tensor on a device, or whatever holds tensors, with these there: a module, a dataclass, a tuple, a list or a dict."""
    match value:
        case Tensor() | nn.Module():
            return value.to(device)
        case Mapping():
            return {key: moved(part, device) for key, part in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(moved(part, device) for part in value))
        case list() | tuple():
            return type(value)(moved(part, device) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: moved(part, device) for name, part in parts.items()})
    return value


@cache
def _say(error: str) -> None:
    """Say once why a GPU is not used."""
    log.warning("The processor computes what a GPU was to: %s", error)

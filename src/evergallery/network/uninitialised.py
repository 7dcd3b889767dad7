"""Networks without initial weights, for those whose weights are loaded at once or whose shapes alone are asked for."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

DRAWS = frozenset({
    "normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "orthogonal_", "trunc_normal_", "xavier_normal_",
    "xavier_uniform_",
    # Truncated normal numbers are made of uniform ones by it, and nothing else is.
    "erfinv_",
})  # fmt: skip
"""Functions that fill a tensor with random numbers, of tensors and of ``torch.nn.init``."""


class uninitialised(TorchFunctionMode):  # noqa: N801
    """While the block lasts, no random number is drawn into a tensor: new weights are whatever the memory held.

    Drawing takes most of the time in which a large network is built. Buffers and constants are set as always.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is in place of filling it; call any other function."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)

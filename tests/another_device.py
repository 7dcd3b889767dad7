"""A second device for machines that have none: tensors that lie there are refused beside those of the processor, as on a GPU.

Its numbers are the processor's. It has the name of torch's ``meta``, for which nothing must be opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ANOTHER = torch.device("meta")
_INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
_COPYING = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}


class _RemoteTensor(Tensor):
    """A tensor of the device, around one of the processor."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "_RemoteTensor":
        made: _RemoteTensor = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=ANOTHER, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(function, args, kwargs or {})


class _RemoteMode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, _RemoteTensor)]
    # Numbers without a dimension go anywhere.
    here = [tensor for tensor in tensors if not isinstance(tensor, _RemoteTensor) and tensor.ndim]
    by_index = function in _INDEXING and isinstance(args[0], _RemoteTensor)
    if there and here and not by_index and function not in _COPYING:
        raise RuntimeError(f"{function} has tensors on two devices.")
    if function is torch.ops.aten.copy_.default:
        goes_there = isinstance(args[0], _RemoteTensor)
    elif kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]) == ANOTHER
        kwargs = {**kwargs, "device": "cpu"}
    else:
        goes_there = bool(there)
    args, kwargs = tree_map(lambda value: value.held if isinstance(value, _RemoteTensor) else value, (args, kwargs))
    made = function(*args, **kwargs)
    # What is changed in place stays the tensor that it was.
    known = {id(tensor.held): tensor for tensor in there}

    def placed(value: Any) -> Any:
        if not goes_there or not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else _RemoteTensor(value)

    return tree_map(placed, made)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Let there be the device."""
    with _RemoteMode():  # type: ignore[no-untyped-call]
        yield ANOTHER

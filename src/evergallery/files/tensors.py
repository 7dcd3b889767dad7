"""Tensors on disk: safetensors, never pickle; durable, and identified by what they hold."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evergallery.errors import DamagedError
from evergallery.files.durable import TEMPORARY_PREFIX, sha256_of, sync_directory
from evergallery.files.tensor_files import hash_of_tensors, require_written


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors durably, under their final name only when complete; returns the SHA-256 of the file.

    Raises:
        OSError: the disk is full, or does not take the file; nothing of it is left.
    """
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        # The library hands on the system's error in words only.
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, f"{os.strerror(code)} for {path}") from error
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
    return sha256_of(path)


def load_tensors(path: Path, sha256: str, remedy: str) -> dict[str, Tensor]:
    """Read tensors whose file has this SHA-256.

    Raises:
        DamagedError: the file is missing or altered; the message ends with ``remedy``.
    """
    require_written(path, sha256, remedy)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedError(f"{path} is not a safetensors file ({error}): {remedy}.") from error


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, whatever the order and the memory layout."""
    flat = ((name, tensors[name].detach().cpu().contiguous()) for name in sorted(tensors))
    return hash_of_tensors(
        (name, str(tensor.dtype), tuple(tensor.shape), [tensor.reshape(-1).view(torch.uint8).numpy().tobytes()])
        for name, tensor in flat
    )

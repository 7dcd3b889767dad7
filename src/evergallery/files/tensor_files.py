"""Files of tensors, verified without torch: whether one is the file that was written, and the hash of what it holds."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from evergallery.errors import DamagedError
from evergallery.files.durable import permitted, sha256_of

CHUNK = 2**20
TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""Names of safetensors' types as torch has them."""


def require_written(path: Path, sha256: str, remedy: str) -> None:
    """Refuse a file that has not this SHA-256.

    Raises:
        DamagedError: it is missing or altered; the message ends with ``remedy``.
        UnreadableError: it may not be read.
    """
    if not path.is_file():
        raise DamagedError(f"{path} is missing: {remedy}.")
    with permitted(path):
        found = sha256_of(path)
    if found != sha256:
        raise DamagedError(f"{path} is not the file that was written (its checksum differs): {remedy}.")


def stored_tensors_hash(path: Path) -> str:
    """``hash_tensors`` of the tensors in a file, in bounded memory.

    Raises:
        DamagedError: it is not a safetensors file.
        UnreadableError: it may not be read.
    """
    with permitted(path), path.open("rb") as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it ends too early")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            return hash_of_tensors(
                (
                    name,
                    f"torch.{TYPES[entry['dtype']]}",
                    tuple(entry["shape"]),
                    _chunks(file, 8 + length, *entry["data_offsets"]),
                )
                for name, entry in sorted(header.items())
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{path} is not a safetensors file ({error}): restore it from a backup.") from error


def hash_of_tensors(tensors: Iterable[tuple[str, str, tuple[int, ...], Iterable[bytes]]]) -> str:
    """SHA-256 over tensors in order of their names: each its name, type, shape, and the bytes of its values."""
    digest = hashlib.sha256()
    for name, kind, shape, values in tensors:
        digest.update(f"{name}:{kind}:{shape};".encode())
        for part in values:
            digest.update(part)
    return digest.hexdigest()


def _chunks(file: BinaryIO, base: int, start: int, stop: int) -> Iterator[bytes]:
    file.seek(base + start)
    left = stop - start
    while left:
        part = file.read(min(left, CHUNK))
        if not part:
            raise ValueError("it ends too early")
        left -= len(part)
        yield part

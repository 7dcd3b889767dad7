"""Pickles of image sets: arrays, lists, dictionaries, strings and numbers.

A pickle may name any function to be called: all others are refused.
"""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.errors import InputError

# Arrays need these alone, which NumPy 1 and 2 keep in different modules.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numeric", "_frombuffer"): np.zeros(0).__reduce_ex__(5)[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def unpickled(path: Path) -> Any:
    """Return what a pickle holds, with text in place of the bytes that Python 2 wrote for it.

    Raises:
        InputError: it cannot be read, or asks for anything else than arrays.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # NumPy warns of how files of 2009 write the flags of a type.
            warnings.simplefilter("ignore")
            return _texts(_ArrayUnpickler(file, encoding="bytes").load())
    # Damaged pickles raise almost anything.
    except Exception as error:
        raise InputError(f"{path} cannot be read ({error}): download it again.") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, lists, dictionaries, strings and numbers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"):
            module = module.rpartition(".")[2]
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which images do not need")
        return _ALLOWED[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    """Return how protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {_texts(key): _texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value

"""Copies of workspaces: the files of a gallery are mostly holes, which a copy by the system would fill with zeros."""

import shutil
from pathlib import Path

from evergallery.files import copy_sparse


def copied(directory: Path, target: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Copy a directory to one that is not there yet, and return it.

    Args:
        directory: to copy.
        target: the copy.
        without: names of what is left out, at any depth.
    """
    return Path(shutil.copytree(directory, target, ignore=shutil.ignore_patterns(*without), copy_function=_copy))


def _copy(source: str, target: str) -> None:
    copy_sparse(Path(source), Path(target))
    shutil.copystat(source, target)

"""The files that published sets consist of: where they lie, folders of pictures, lists and tables of text, MATLAB files."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evergallery.data.images.kinds import SUFFIXES
from evergallery.errors import InputError, MissingExtraError

LIST_INSHOP = "list_eval_partition.txt"
FOLDERS_OF = {LIST_INSHOP: ("", "Eval", "Anno")}
"""The folders in which copies of a set keep one of its files."""
ENTRIES, LOOKED_INTO = 1000, 50
"""The number of entries of a folder, and of folders among them, that are looked at for a known set."""


def complete_root(name: str, data_dir: Path | None, candidates: Sequence[str], needed: Sequence[str]) -> Path:
    """The folder that holds everything ``needed``: a candidate below ``data_dir``, or ``data_dir`` itself.

    Raises:
        InputError: there is none.
    """
    if data_dir is None:
        raise InputError(
            f"The set {name!r} is read from disk: say with --data-dir (data_dir in Python) which folder holds "
            f"{candidates[0]}/ with {', '.join(needed)}."
        )
    roots = [*(data_dir / candidate for candidate in candidates), data_dir]
    for root in roots:
        if holds(root, needed):
            return root
    root = next((root for root in roots[:-1] if root.is_dir()), roots[0])
    missing = [entry for entry in needed if not has(root, entry)]
    text = f"The set {name!r} is not complete: {root} should hold {', '.join(needed)}, and lacks {', '.join(missing)}"
    near = next((folder for folder in _near(data_dir) if holds(folder, needed)), None)
    raise InputError(f"{text}." if near is None else f"{text}; {near} holds all of it: name that with --data-dir.")


def holds(root: Path, needed: Sequence[str]) -> bool:
    """Return whether a folder holds everything ``needed``."""
    return all(has(root, entry) for entry in needed)


def has(root: Path, entry: str) -> bool:
    """Return whether a folder has a file or folder of a set, where copies of the set have it."""
    return any((root / folder / entry).exists() for folder in FOLDERS_OF.get(entry, ("",)))


def _near(folder: Path) -> Iterator[Path]:
    """The folders around one: those that it lies in, and those below it to a depth of two."""
    yield from list(folder.absolute().parents)[:2]
    below = [folder]
    for _ in range(2):
        below = [path for parent in below for path in folders_of(parent)]
        yield from below


def folders_of(folder: Path) -> list[Path]:
    """Some of the folders in one; none where nobody may look."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in islice(entries, ENTRIES) if entry.is_dir()][:LOOKED_INTO]
    except OSError:
        return []


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Files of a folder, in order; of all of them the pictures, without what file managers leave behind.

    Raises:
        InputError: there is none, as where an archive was unpacked into a folder of its own.
    """
    known = SUFFIXES if pattern.endswith("*") else {Path(pattern).suffix}
    found = [path for path in folder.glob(pattern) if path.suffix.lower() in known and not path.name.startswith(".")]
    if not found:
        what = "picture" if pattern.endswith("*") else "file"
        raise InputError(f"There is no {what} at {folder / pattern}, where the set has them: unpack it again.")
    return sorted(found)


def read_matlab(path: Path, name: str) -> dict[str, Any]:
    """The variables of a MATLAB file of the set with this name.

    Raises:
        InputError: it cannot be read.
        MissingExtraError: without SciPy.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError(f"The set {name!r}", "digits") from error
    try:
        content: dict[str, Any] = loadmat(path, squeeze_me=True)
    # Damaged files raise almost anything.
    except Exception as error:
        raise damaged(path, error) from error
    return content


def damaged(path: Path, error: Exception) -> InputError:
    """The error that says that a file of a set is not what it should be."""
    return InputError(f"{path} cannot be read ({error}): download it again.")


def lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, error) from error


def fields(path: Path, count: int) -> list[list[str]]:
    """The lines of a table, each split at white space into ``count`` fields.

    Raises:
        InputError: it cannot be read, or a line has fewer.
    """
    rows = [line.split(maxsplit=count - 1) for line in lines(path) if line.strip()]
    for row in rows:
        if len(row) != count:
            raise InputError(f"{path} has the line {' '.join(row)!r} without {count} fields: download it again.")
    return rows

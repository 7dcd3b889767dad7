"""The files that published sets consist of: folders of pictures, lists and tables of text, MATLAB files."""

from pathlib import Path
from typing import Any

from evergallery.data.images.kinds import SUFFIXES
from evergallery.errors import InputError, MissingExtraError


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

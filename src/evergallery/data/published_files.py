"""The files that published sets consist of: where they lie, folders of pictures, lists and tables of text, MATLAB files."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evergallery.data.images.kinds import SUFFIXES
from evergallery.data.places import is_there
from evergallery.errors import InputError, MissingExtraError

LIST_INSHOP = "list_eval_partition.txt"
PLACES_LISTS = ("places365_train_standard.txt", "places365_val.txt", "categories_places365.txt")
FOLDERS_OF = {
    LIST_INSHOP: ("", "Eval", "Anno"),
    **dict.fromkeys(PLACES_LISTS, ("", "filelist_places365-standard")),
}
"""The folders in which copies of a set keep one of its files."""
OR = " or "
"""Stands between the names that an entry of a set has in several copies."""
IMAGES_INSHOP = OR.join(("Img", "img", "img_highres"))
GROCERIES = OR.join(("train/Fruit", "train/Packages", "train/Vegetables"))
COMMON = frozenset(
    {"train", "val", "test", "query", "Images", "images.txt", "classes.txt", "train.txt", "val.txt", "test.txt"}
    | {IMAGES_INSHOP, GROCERIES}
)
"""The entries of sets that folders of anything hold."""
ENTRIES, LOOKED_INTO = 1000, 50
"""The number of entries of a folder, and of folders among them, that are looked at for a known set."""


def complete_root(
    name: str,
    data_dir: Path | None,
    candidates: Sequence[str],
    needed: Sequence[str],
    *others: Sequence[str],
    instead: str = "",
) -> Path:
    """The folder that holds everything ``needed``: a candidate below ``data_dir``, or ``data_dir`` itself.

    Args:
        name: of the set.
        data_dir: where sets lie.
        candidates: folders to look in.
        needed: what one of them must hold.
        others: what it may hold in place of that, each.
        instead: what else will do, for the message.

    Raises:
        InputError: there is none.
    """
    if data_dir is None:
        raise InputError(
            f"The set {name!r} is read from disk: say with --data-dir (data_dir in Python) which folder holds "
            f"{candidates[0]}/ with {', '.join(needed)}{instead}."
        )
    forms = (needed, *others)
    roots = [*(data_dir / candidate for candidate in candidates), data_dir]
    for root in roots:
        if any(holds(root, form) for form in forms):
            return root
    there = [root for root in roots[:-1] if root.is_dir()] or [roots[0], data_dir]
    # The first of those that hold most of what no other folder holds.
    root, form = max(
        ((root, form) for root in there for form in forms),
        key=lambda pair: sum(entry not in COMMON and has(pair[0], entry) for entry in pair[1]),
    )
    missing = [entry for entry in form if not has(root, entry)]
    text = f"The set {name!r} is not complete: {root} should hold {', '.join(form)}{instead}, and lacks {', '.join(missing)}"
    near = (
        place for folder in _near(data_dir) for place in (folder, *(folder / candidate for candidate in candidates))
    )
    whole = next((place for place in near if any(holds(place, form) for form in forms)), None)
    raise InputError(f"{text}." if whole is None else f"{text}; {whole} holds all of it: name that with --data-dir.")


def holds(root: Path, needed: Sequence[str]) -> bool:
    """Return whether a folder holds everything ``needed``."""
    return all(has(root, entry) for entry in needed)


def has(root: Path, entry: str) -> bool:
    """Return whether a folder has a file or folder of a set, under a name and in a place that copies of the set have."""
    return place_of(root, entry) is not None


def place_of(root: Path, entry: str) -> Path | None:
    """The place at which a folder has a file or folder of a set; ``None`` where it has none."""
    places = (root / folder / name for name in entry.split(OR) for folder in FOLDERS_OF.get(name, ("",)))
    return next((place for place in places if is_there(str(place))), None)


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


def names_in(folder: Path) -> list[str]:
    """Some of the names in a folder; none where nobody may look."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, LOOKED_INTO)]
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

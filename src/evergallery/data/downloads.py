"""Sets of photographs that torchvision downloads, once, below ``data_dir`` or in the user's cache."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry, Listing
from evergallery.errors import InputError, extra


def flowers102(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """Photographs of 102 kinds of flowers, 350 MB (Nilsback and Zisserman 2008); its parts train, val and test.

    Raises:
        InputError: it cannot be downloaded.
        MissingExtraError: scipy, which reads its tables, is not installed.
    """
    from torchvision.datasets import Flowers102

    with extra("The set 'flowers102'", "digits"):
        import scipy.io  # noqa: F401
    return _downloaded("flowers102", Flowers102, ("train", "val", "test"), data_dir)


def food101(data_dir: Path | None, preprocessing: Preprocessing) -> Listing:
    """Photographs of 101 dishes, 5 GB (Bossard, Guillaumin, Van Gool 2014); its parts train and test.

    Raises:
        InputError: it cannot be downloaded.
    """
    from torchvision.datasets import Food101

    return _downloaded("food101", Food101, ("train", "test"), data_dir)


def cache() -> Path:
    """Return where sets are kept whose place nobody names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evergallery"


def _downloaded(name: str, kind: Callable[..., Any], splits: Sequence[str], data_dir: Path | None) -> Listing:
    root = data_dir if data_dir is not None else cache()
    entries: list[Entry] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        for split in splits:
            # What would open an image gives its address.
            found = kind(root, split=split, download=True, loader=str)
            pairs = [found[index] for index in range(len(found))]
            entries += [Entry(str(Path(path).absolute()), found.classes[label], split) for path, label in pairs]
    except (OSError, RuntimeError, URLError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"The set {name!r} could not be downloaded into {root} ({reason}): connect to the internet, or name the folder that "
            f"holds it already with --data-dir."
        ) from error
    return Listing(entries)

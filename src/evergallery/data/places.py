"""Files by address: a path on this machine, or the URL of whatever else fsspec can read (``s3://``, ``gs://``, ``https://``)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

from evergallery.data.images import MAX_BYTES, MissingFileError, read_bytes
from evergallery.errors import InputError, MissingExtraError


class MissingPackageError(MissingExtraError):
    """The package is not installed that reads the files of a storage."""

    def __init__(self, protocol: str, reason: str) -> None:
        InputError.__init__(self, f"Reading {protocol}:// needs another package ({reason}): install it with pip.")


class FolderEntry(NamedTuple):
    """An entry of a folder."""

    name: str
    is_folder: bool
    is_link: bool


def local_path(address: str | Path) -> Path | None:
    """The path of an address on this machine; ``None`` where it lies elsewhere."""
    text = str(address)
    if text.startswith("file://"):
        return _of_file_url(text)
    return None if "://" in text else Path(address)


def _of_file_url(address: str) -> Path:
    """The path of a ``file://`` address, whose special characters are escaped; one that nobody has escaped is found too."""
    plain = address.removeprefix("file://").removeprefix("localhost")
    path = Path(unquote(plain, errors="surrogateescape"))
    return Path(plain) if "%" in plain and not os.path.lexists(path) and os.path.lexists(plain) else path


def join(folder: str, name: str) -> str:
    """The address of a name in a folder; a name that is an address itself stays as it is, and so does an absolute path here.

    On this machine it has no ``..``, so that a file has one address whichever table names it. Where no file has a name with
    backslashes, they separate folders, as in a table that was made on Windows.
    """
    path = local_path(name)
    if path is None or name.startswith("file://"):
        return str(path or name)
    within = local_path(folder)
    if within is None:
        return f"{folder.rstrip('/')}/{name}"
    if "\\" in name and not os.path.lexists(within / path):
        path = Path(name.replace("\\", "/"))
    return str(_straight((within / path).absolute()))


def _straight(path: Path) -> Path:
    """A path without ``..``, which leads up from where a link points to, and not from the link."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path))
    with suppress(OSError, ValueError):
        if plain.parent.samefile(path.parent):
            return plain
    with suppress(ValueError):
        return Path(os.path.realpath(path.parent)) / path.name
    return path


def read(address: str, *, redirects: bool = True) -> bytes:
    """All bytes of a file.

    Args:
        address: of the file.
        redirects: whether a web server may send on to another address.

    Raises:
        MissingFileError: there is none.
        InputError: the reason why it cannot be read, without the address.
        MissingExtraError: nothing is installed that reads such addresses.
    """
    path = local_path(address)
    if path is not None:
        return read_bytes(path)
    is_web = address.lower().startswith(("http://", "https://"))
    system, name = _remote(address, **({} if redirects or not is_web else {"allow_redirects": False}))
    try:
        data: bytes = system.cat_file(name, start=0, end=MAX_BYTES + 1)
    except FileNotFoundError:
        raise MissingFileError("there is no such file.") from None
    # Every storage has errors of its own.
    except Exception as error:
        raise InputError(f"the storage reports: {_reason(error)}.") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"it has more than the {MAX_BYTES:,} bytes allowed.")
    return data


@contextmanager
def opened(address: str, mode: str = "rb", **options: Any) -> Iterator[IO[Any]]:
    """A file that is read piece by piece, as ``open`` gives it.

    Raises:
        InputError: there is none, or the storage refuses.
    """
    path = local_path(address)
    if path is not None:
        with path.open(mode, **options) as file:
            yield file
        return
    system, name = _remote(address)
    try:
        file = system.open(name, mode, **options)
    except FileNotFoundError:
        raise InputError(f"There is no {address}: check the address.") from None
    except Exception as error:
        raise InputError(
            f"{address} cannot be read ({_reason(error)}): check the address and who may read it."
        ) from error
    with file:
        yield file


OF_SYSTEMS = {
    "__MACOSX", "@eaDir", "@Recycle", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found",
}  # fmt: skip
"""Folders that archives, shared disks and file systems make beside those of people: they hold thumbnails, copies and what was
deleted."""


def children(folder: str) -> Iterator[FolderEntry]:
    """Return what lies in a folder, in no order, without what is hidden or a system's own.

    Of a folder on this machine one entry at a time is in memory. A folder elsewhere is listed as a whole.

    Raises:
        InputError: it cannot be listed.
    """
    path = local_path(folder)
    found = _children_elsewhere(folder) if path is None else _children_here(path)
    return (child for child in found if not child.name.startswith(".") and child.name not in OF_SYSTEMS)


def _children_here(folder: Path) -> Iterator[FolderEntry]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield FolderEntry(entry.name, _is_folder(entry), entry.is_symlink())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}): check its permissions.") from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, for instance: whoever opens it hears why not.
        return False


def identity(folder: str) -> tuple[int, int] | None:
    """Return which folder of this machine an address leads to; ``None`` where it lies elsewhere or is not there."""
    path = local_path(folder)
    try:
        status = None if path is None else path.stat()
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def is_there(address: str) -> bool:
    """Return whether something is at an address of this machine; what lies elsewhere is believed to be."""
    path = local_path(address)
    try:
        return path is None or path.exists()
    except OSError:
        return False


def is_file(address: str) -> bool:
    """Return whether a file is at an address of this machine; nobody asks elsewhere, where nothing is believed to be."""
    path = local_path(address)
    try:
        return path is not None and path.is_file()
    except OSError:
        return False


def is_below(address: str, folder: str) -> bool:
    """Return whether an address lies in a folder, or in one below it; both as they are written."""
    path, within = local_path(address), local_path(folder)
    if path is None or within is None:
        return path is within is None and address.startswith(f"{folder.rstrip('/')}/")
    return within in path.parents


def head(address: str, size: int = 64) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    path = local_path(address)
    try:
        if path is None:
            system, name = _remote(address)
            found: bytes = system.cat_file(name, start=0, end=size)
            return found
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(size)
    # Every storage has errors of its own; whoever reads the file as a whole hears them.
    except Exception:
        return b""


def _children_elsewhere(folder: str) -> Iterator[FolderEntry]:
    system, name = _remote(folder)
    try:
        found = system.ls(name, detail=True)
    except FileNotFoundError:
        raise InputError(f"There is no {folder}: check the address.") from None
    except Exception as error:
        raise InputError(
            f"{folder} cannot be listed ({_reason(error)}): check the address and who may read it."
        ) from error
    for child in found:
        # Some storages list a folder, made as an empty file, in itself.
        if child["name"].strip("/") != name.strip("/"):
            yield FolderEntry(child["name"].rstrip("/").rpartition("/")[2], child["type"] == "directory", False)


def _remote(address: str, **options: Any) -> tuple[Any, str]:
    """The file system of an address, and the name of the file there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError(f"Reading {address}", "remote") from error
    try:
        # The cache of listings would keep what is read once in memory for ever.
        system, name = url_to_fs(address, use_listings_cache=False, **options)
    except ValueError as error:
        raise MissingFileError(f"{address} cannot be read ({_reason(error)}): check the address.") from error
    except ImportError as error:
        raise MissingPackageError(address.partition("://")[0], _reason(error)) from error
    # Some systems, as FTP, are asked as soon as they are made; their errors have no common base.
    except Exception as error:
        raise InputError(
            f"{address} cannot be read ({_reason(error)}): check the address and who may read it."
        ) from error
    return system, name


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

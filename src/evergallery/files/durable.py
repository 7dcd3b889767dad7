"""Files that survive a kill: written whole or not at all, and one writer at a time."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from evergallery.errors import (
    BusyError,
    DamagedError,
    FullError,
    InputError,
    NotFoundError,
    ReadOnlyError,
    RefusedError,
    UnreadableError,
)

TEMPORARY_PREFIX = ".writing-"
COPIED_AT_ONCE = 2**18
ZEROS = bytes(COPIED_AT_ONCE)
SETTLED = 0.05
"""Seconds after which a file's time is sure to differ from that of the next one in its place."""
LOOK_SECONDS = 0.2
"""Seconds that a lock is waited for at least: who looks for its holder has it for a moment."""

Content = TypeVar("Content")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, leaving holes where it holds zeros."""
    for _ in _copied(source, target):
        pass


def copy_hashed(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file, leaving holes where it holds zeros; returns its length in bytes and the SHA-256 of what was read."""
    digest, length = hashlib.sha256(), 0
    for block in _copied(source, target):
        digest.update(block)
        length += len(block)
    return length, digest.hexdigest()


def _copied(source: Path, target: Path) -> Iterator[bytes]:
    """The blocks of a file, each of which is in the copy when it is given; the copy is whole after the last."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(COPIED_AT_ONCE):
            if block == ZEROS[: len(block)]:
                writer.seek(len(block), os.SEEK_CUR)
            else:
                writer.write(block)
            yield block
        writer.truncate(reader.tell())


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable (a rename is not until its directory is)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes | str, *, private: bool = False) -> None:
    """Replace ``path`` by ``content``: after a crash it holds the old bytes or the new ones, never a mixture.

    It has the owner and the mode of the file that it replaces; a new file is its directory's owner's, and as open as that.

    Args:
        path: of the file.
        content: all of it.
        private: whether a new file is for its owner alone.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _hand_over(Path(temporary), path, private)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _hand_over(temporary: Path, path: Path, private: bool = False) -> None:
    """Give what is about to become ``path`` the owner and the mode of what is there, or of the directory that it comes to."""
    replaced = path.is_file()
    like = (path if replaced else path.parent).stat()
    mode = 0o600 if private and not replaced else stat.S_IMODE(like.st_mode)
    temporary.chmod(mode if temporary.is_dir() else mode & 0o666)
    _set_owner(temporary, like.st_uid, like.st_gid)


def _set_owner(path: Path, owner: int, group: int) -> None:
    """Let a file have this owner, where this process may do that."""
    status = path.lstat()
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (owner, group):
        with suppress(OSError):
            os.chown(path, owner, group, follow_symlinks=False)


def give_to_owner(directory: Path) -> None:
    """Let whoever owns a directory own all that root has made in it: a service could not write to it otherwise."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in directory.rglob("*"):
            with suppress(FileNotFoundError):
                if path.lstat().st_uid == 0:
                    _set_owner(path, owner.st_uid, owner.st_gid)


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically; see ``write_atomic``."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", private=private)


@contextmanager
def permitted(path: Path) -> Iterator[None]:
    """Tell a stored file that may not be read from one that is damaged: no backup helps there.

    Raises:
        UnreadableError: permission to read it is denied.
    """
    try:
        yield
    except PermissionError as error:
        raise UnreadableError(
            f"{path} may not be read ({error.strerror}), and whether it is damaged nobody knows: give this user permission to "
            f"read it, or run the same command as its owner."
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedError: the file is missing or is not JSON.
        UnreadableError: it may not be read.
    """
    try:
        with permitted(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing: restore it from a backup.") from error
    # What is nested without end is no ValueError.
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read as JSON ({error}); restore it from a backup.") from error


def read_object(path: Path, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object, which has values of these types under these names, and others besides.

    Raises:
        DamagedError: the file is missing, is not JSON, or is JSON of another shape.
        UnreadableError: it may not be read.
    """
    content = read_json(path)
    wrong = (
        next((name for name, kind in kinds.items() if not isinstance(content.get(name), kind)), None)
        if isinstance(content, dict)
        else "object"
    )
    if wrong is not None:
        raise DamagedError(f"{path} is JSON of another shape than was written (its {wrong}): restore it from a backup.")
    return dict(content)


class FileContents(Generic[Content]):
    """The contents of files, read again only where a file was replaced; threads may share it.

    Files must be replaced by a rename, as ``write_atomic`` does. What is returned is shared: nobody may change it.

    Args:
        read: makes of a path what is kept, and raises where it cannot.
    """

    def __init__(self, read: Callable[[Path], Content]) -> None:
        self._read = read
        self._known: dict[Path, tuple[tuple[int, int, int], Content]] = {}

    def get(self, path: Path) -> Content:
        """Return what the file at ``path`` holds now."""
        try:
            status = path.stat()
        except OSError:
            return self._read(path)
        mark = status.st_ino, status.st_size, status.st_mtime_ns
        known = self._known.get(path)
        if known is not None and known[0] == mark:
            return known[1]
        content = self._read(path)
        # Replaced twice within a tick of the clock, it may come back with the same inode and time: trusted only later.
        if time.time() - status.st_mtime > SETTLED:
            self._known[path] = mark, content
        return content


@contextmanager
def creation_of(path: Path) -> Iterator[None]:
    """Turn the refusals of a place that somebody named into sentences while a file or directory is created there.

    Raises:
        InputError: nothing can be there, since what should hold it is missing, or no directory.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise InputError(f"{path} cannot be written ({error.strerror}): name a place in a directory.") from error


def require_place(path: Path, *, is_new: bool = False) -> None:
    """Refuse a place where no file can be written, before anything expensive is made for it.

    Args:
        path: of the file, or of a directory that is made.
        is_new: whether nothing may be there yet; otherwise a file is replaced.

    Raises:
        InputError: its folder is missing, it is a folder itself, or something is there that may not be.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    if path.is_dir() and not is_new:
        raise InputError(f"{path} cannot be written: it is a folder; name a file in it.")
    if is_new and os.path.lexists(path):
        raise InputError(f"{path} cannot be written: it exists; give a new name.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file that replaces ``path`` when the block ends, or vanishes if the block fails."""
    # Not by tempfile, whose files nobody else may read: this one is made to be handed on.
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    with creation_of(path):
        temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if path.is_file():
            _hand_over(temporary, path)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def new_directory(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``path`` when the block ends, or vanishes if the block fails.

    It appears complete and synced, in one rename; it and all in it are the owner's of the directory that it comes to, and as
    open as that.

    Args:
        path: must not exist.
        private: whether it is for whoever makes it alone.
    """
    with creation_of(path):
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            if entry.is_file():
                with entry.open("rb") as file:
                    os.fsync(file.fileno())
        if not private:
            for entry in (temporary, *temporary.rglob("*")):
                _hand_over(entry, path)
        sync_directory(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)


@contextmanager
def lock(path: Path, purpose: str, *, wait: float = 0) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when the process ends, however it ends.

    Args:
        path: of the lock's file; made where it is missing.
        purpose: what the holder does, for the message that others get.
        wait: seconds to wait for another holder; ``LOOK_SECONDS`` at least.

    Raises:
        BusyError: another process holds it; the message names that process and what it does.
        NotFoundError: the directory of its file is gone.
        ReadOnlyError: its file cannot be written.
        RefusedError: the file system knows no locks.
    """
    deadline = time.monotonic() + max(wait, LOOK_SECONDS)
    with _opened_for_writing(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise RefusedError(
                        f"The file system of {path.parent} refuses a lock ({error.strerror}): keep the workspace on one that has "
                        f"locks, or mount it with them."
                    ) from error
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BusyError(
                f"{path.parent} is in use: {holder}; wait for it to end or stop it, then try again."
            ) from None
        _write_holder(path, f"process {os.getpid()} ({purpose})")
        try:
            yield
        finally:
            _write_holder(path, "")


def _opened_for_writing(path: Path) -> IO[str]:
    try:
        return path.open("a+")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path.parent} is not there any more: bring it back, or open what is there.") from error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise ReadOnlyError(
            f"{path.parent} cannot be written ({error.strerror}): it lies on a read-only disk, or permission is denied."
        ) from error


def _write_holder(path: Path, who: str) -> None:
    """Write who holds a lock, which a full disk does not keep anybody from."""
    with suppress(OSError), path.open("w") as file:
        file.write(who)


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Keep writers out without writing anything; where there is no lock's file there are no writers.

    Raises:
        BusyError: another process holds the lock to write.
    """
    if not path.is_file():
        yield
        return
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise BusyError(f"{path.parent} is in use: {file.read().strip() or 'another process'}.") from None
        yield


def is_writable(directory: Path) -> bool:
    """Return whether something can be written to a directory: its disk is not read-only, and its permissions allow it."""
    return os.access(directory, os.W_OK)


def require_room(directory: Path, needed: int, purpose: str) -> None:
    """Refuse what a disk has no room for, before it is begun: who writes through a map of a file is killed otherwise.

    Raises:
        FullError: fewer than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise FullError(
            f"The disk of {directory} has {free / 2**20:.0f} MiB free, and {purpose} takes up to {needed / 2**20:.0f} MiB: make "
            f"room, then give the same command again; nothing that was stored is lost."
        )


def was_killed(path: Path) -> bool:
    """Return whether the last holder of a lock ended without giving it back, so that its name is still there."""
    return path.is_file() and holder(path) is None and bool(path.read_text().strip())


def holder(path: Path) -> str | None:
    """Return who holds a lock, in words; ``None`` where nobody does."""
    if not path.is_file():
        return None
    with path.open() as file:
        try:
            # Shared, so that those who look are not in each other's way.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            # A file system that knows no locks has no holder either.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                return file.read().strip() or "another process"
    return None

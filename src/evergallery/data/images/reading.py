"""All bytes of a file, or the reason why not."""

import stat
from dataclasses import dataclass
from pathlib import Path

from evergallery.errors import InputError

MAX_BYTES = 1 << 30


class MissingFileError(InputError):
    """There is no such file."""


@dataclass(frozen=True)
class UnreadableImage:
    """An image that was left out, and why: it could not be read, or a table says that it is junk."""

    uri: str
    reason: str

    def __str__(self) -> str:
        return f"{self.uri}: {self.reason}"


def read_bytes(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        MissingFileError: there is none.
        InputError: the reason why not, without the path.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError("it is a directory.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError("it is not a regular file.")
        if status.st_size > MAX_BYTES:
            raise InputError(f"it has {status.st_size:,} bytes, more than the {MAX_BYTES:,} allowed.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError("there is no such file.") from None
    except PermissionError:
        raise InputError("permission to read it is denied.") from None
    except ValueError:
        raise InputError("its address holds the character NUL, which no file's name can.") from None
    except OSError as error:
        raise InputError(f"the file system reports: {error.strerror or error}.") from error

"""Every error that a user can meet.

    EvergalleryError            base: catch this one
    ├── InputError              the data or an argument cannot be used            exit status 2
    ├── MissingExtraError       an optional dependency is not installed           exit status 2
    ├── NotFoundError           a generation, item or workspace is not there      exit status 1
    ├── RefusedError            it would be wrong, for instance mixing two spaces exit status 1
    ├── BusyError               another process holds the lock                    exit status 1
    ├── ReadOnlyError           the disk, or its permissions, let nothing be written exit status 1
    ├── FullError               a disk has too little room                        exit status 1
    ├── DamagedError            a stored file is not what was written             exit status 1
    ├── TrainingError           training cannot go on, for instance a loss is NaN exit status 1
    └── StoppedError            somebody asked the process to stop (SIGTERM)      exit status 143

A message is one sentence that says what is wrong, where, and what to do.
"""

from typing import ClassVar

from evergallery.redaction import redacted_text


class EvergalleryError(Exception):
    """Base of every error that Evergallery raises on purpose."""

    exit_status: ClassVar[int] = 1

    def __init__(self, *arguments: object) -> None:
        # Messages name addresses, and are shown, logged and sent on.
        super().__init__(*(redacted_text(one) if isinstance(one, str) else one for one in arguments))


class InputError(EvergalleryError):
    """The data or an argument cannot be used as given."""

    exit_status = 2


class MissingExtraError(EvergalleryError):
    """A feature needs an optional dependency that is not installed."""

    exit_status = 2

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: install it with  pip install 'evergallery[{extra}]'")


class NotFoundError(EvergalleryError):
    """What was asked for does not exist."""


class RefusedError(EvergalleryError):
    """The operation is possible but would give wrong results, so it is not done."""


class BusyError(EvergalleryError):
    """Another process is doing something that excludes this."""


class ReadOnlyError(EvergalleryError):
    """Nothing may be written where it would have to be."""


class FullError(EvergalleryError):
    """A disk has too little room for what would be written; nothing was."""


class DamagedError(EvergalleryError):
    """A stored file is missing, truncated or altered."""


class TrainingError(EvergalleryError):
    """Training cannot go on."""


class StoppedError(EvergalleryError):
    """The process was asked to stop; the same command goes on from where it was."""

    exit_status = 143

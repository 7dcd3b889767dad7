"""Every error that a user can meet.

    EvergalleryError            base: catch this one
    ├── InputError              the data or an argument cannot be used            exit status 2
    ├── MissingExtraError       an optional dependency is not installed           exit status 2
    ├── NotFoundError           a generation, item or workspace is not there      exit status 3
    ├── RefusedError            it would be wrong, for instance mixing two spaces exit status 1
    ├── BusyError               another process holds the lock                    exit status 4
    ├── UnavailableError        a server that was asked does not answer           exit status 4
    ├── ReadOnlyError           the disk, or its permissions, let nothing be written exit status 5
    ├── FullError               a disk has too little room                        exit status 5
    ├── StoredFileError         a stored file cannot be used: one of two
    │   ├── DamagedError        it is not what was written                        exit status 6
    │   └── UnreadableError     permission to read it is denied                   exit status 5
    ├── TrainingError           training cannot go on, for instance a loss is NaN exit status 7
    └── StoppedError            somebody asked the process to stop (SIGTERM)      exit status 143

A message is one sentence that says what is wrong, where, and what to do. One kind of mistake has one wording: values that
somebody may give (a share, a number above 0, one of some words) are refused by the functions at the end.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from math import inf
from operator import index
from typing import Any, ClassVar, Protocol, SupportsIndex

from evergallery.strings.redaction import redacted_text

EXIT_STATUSES: dict[int, str] = {
    0: "done",
    1: "no: the gate is not passed, or what was asked for is refused because it would be wrong",
    2: "the command line, a file or another input cannot be used as given, or an extra is not installed",
    3: "not found: a workspace, a gallery, or a generation, an item or a name in it; a search that finds nothing",
    4: "busy: another process does something that excludes this, or a server does not answer; try again",
    5: "the disk is full or read-only, or permission is denied",
    6: "a stored file is missing, truncated or altered",
    7: "training cannot go on",
    70: "a fault of Evergallery's own, with a traceback",
    130: "stopped by Ctrl-C; the same command goes on",
    143: "stopped by SIGTERM; the same command goes on",
}
"""The meaning of each exit status of a command."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'evergreen'?`` with the known names that are nearest to one that is not known; else nothing."""
    near = get_close_matches(name.lower(), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


SAID = {
    "Value error, ": "", "Input should": "it has to",
    "has to be a valid boolean, unable to interpret input": "has to be true or false",
    "has to be a valid boolean": "has to be true or false",
    "has to be a valid integer, unable to parse string as an integer": "has to be a whole number",
    "has to be a valid integer, got a number with a fractional part": "has to be a whole number",
    "has to be a valid integer": "has to be a whole number",
    "has to be a valid number, unable to parse string as a number": "has to be a number",
    "has to be a valid array": "has to be a list", "has to be a valid list": "has to be a list",
    "has to be a valid dictionary or object to extract fields from": "has to be JSON, with Content-Type: application/json",
    "has to be a valid": "has to be a", "String should have": "it has to have", "List should have": "it has to have",
    "item after validation, not 0": "item", " after validation, not": " and has",
    "Expected UploadFile, received: <class 'str'>": "it has to be a file",
    "greater than or equal to": "at least", "less than or equal to": "at most", "greater than": "above",
    "less than": "below", "Extra inputs are not permitted": "there is none of that name",
    "Field required": "it is missing", "String should match pattern": "it has to match",
}  # fmt: skip
"""Pydantic's words, and those of the command line."""


class ValidationFailure(Protocol):
    """Pydantic's ``ValidationError``, and FastAPI's."""

    def errors(self) -> Sequence[Any]:
        """Each with its type, its message and its place."""


def fault_of(error: ValidationFailure) -> str:
    """Return what is wrong with the first value that does not fit, as the command line says it: ``it has to be at least 1``."""
    # By its message alone: over HTTP nothing else of it is kept.
    first = error.errors()[0]
    message = str(first["msg"]).removesuffix(".")
    if str(first.get("input")).lower() == "nan" and "than" in message:
        # It is neither above nor below a bound.
        return "it has to be a number"
    for words, said in SAID.items():
        message = message.replace(words, said)
    return message


class EvergalleryError(Exception):
    """Base of every error that Evergallery raises on purpose."""

    exit_status: ClassVar[int] = 1

    def __init__(self, *arguments: object) -> None:
        # Messages name addresses, and are shown, logged and sent on.
        super().__init__(
            *(redacted_text(argument) if isinstance(argument, str) else argument for argument in arguments)
        )


class InputError(EvergalleryError):
    """The data or an argument cannot be used as given."""

    exit_status = 2


class MissingExtraError(EvergalleryError):
    """A feature needs an optional dependency that is not installed."""

    exit_status = 2

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: install it with  pip install 'evergallery[{extra}]'")


@contextmanager
def extra(feature: str, name: str) -> Iterator[None]:
    """Imports of an extra: where it is not installed, what needs it, and how it is installed, is said.

    Raises:
        MissingExtraError: a module is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, name) from error


class NotFoundError(EvergalleryError):
    """Something that was asked for does not exist."""

    exit_status = 3


class RefusedError(EvergalleryError):
    """The operation is possible but would give wrong results, so it is not done."""


class BusyError(EvergalleryError):
    """Another process is doing something during which this cannot be done."""

    exit_status = 4


class UnavailableError(EvergalleryError):
    """A server that had to be asked does not answer, or not now."""

    exit_status = 4


class ReadOnlyError(EvergalleryError):
    """Something has to be written where nothing may be."""

    exit_status = 5


class FullError(EvergalleryError):
    """A disk has too little room for what would be written; nothing was."""

    exit_status = 5


class StoredFileError(EvergalleryError):
    """A stored file cannot be used; see its two kinds."""

    exit_status = 6


class DamagedError(StoredFileError):
    """A stored file is missing, truncated or altered."""

    exit_status = 6


class UnreadableError(StoredFileError):
    """A stored file may not be read by whoever runs this process; it need not be damaged."""

    exit_status = 5


class TrainingError(EvergalleryError):
    """Training cannot go on."""

    exit_status = 7


class StoppedError(EvergalleryError):
    """The process was asked to stop; the same command goes on from where it was."""

    exit_status = 143


def require_share(name: str, value: float, of: str) -> None:
    """Refuse what is no share, in (0, 1].

    Args:
        name: of the value, for instance ``fraction``.
        value: that was given.
        of: what it is a share of, in the plural.

    Raises:
        InputError: it is out of range, or no number.
    """
    if not 0 < value <= 1:
        raise InputError(f"A {name} of {value:g} is not usable: give a share of the {of}, above 0 and up to 1.")


def require_positive(name: str, value: float | None) -> None:
    """Refuse a number that is not finite and above 0; ``None`` says nothing.

    Raises:
        InputError: it is out of range, or no number.
    """
    if value is not None and not 0 < value < inf:
        raise InputError(f"A {name} of {value:g} is not usable: it must be a number above 0.")


def require_count(name: str, value: object) -> int:
    """Refuse what is no whole number from 1 on, as ``int`` and numpy have them; return it as an ``int``.

    Raises:
        InputError: it is none, or more than anything can be counted to.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or not 1 <= index(value) < 2**31:
        raise InputError(f"{name} = {value!r} is not usable: it has to be a whole number from 1 to {2**31 - 1}.")
    return index(value)


def require_at_least(name: str, value: float | None, least: float) -> None:
    """Refuse a number that is not finite, or below the smallest that says something; ``None`` says nothing.

    Raises:
        InputError: it is below, infinite, or no number.
    """
    if value is not None and not least <= value < inf:
        raise InputError(f"{name} = {value:g} is not usable: it has to be a finite number, at least {least:g}.")


def require_seed(seed: int | None) -> None:
    """Refuse a seed that no generator takes; ``None`` says nothing.

    Raises:
        InputError: it is below 0, or does not fit into 63 bits.
    """
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"A seed of {seed} is not usable: it must be a whole number from 0 to {2**63 - 1}.")


def require_named(what: str, name: object) -> None:
    """Refuse an empty name, which as a path would mean the current directory.

    Raises:
        InputError: it is empty.
    """
    if name == "":
        raise InputError(f"The name of {what} is empty: give one.")


def require_known(noun: str, name: object, known: Collection[object], more: str = "") -> None:
    """Refuse what is none of some words.

    Raises:
        InputError: see ``unknown``.
    """
    if name not in known:
        raise unknown(noun, name, known, more)


def require_option(name: str, value: str | None, known: Collection[str]) -> None:
    """Refuse what is none of the words that an option takes; ``None`` says nothing.

    Raises:
        InputError: as the command line says it.
    """
    if value is not None and value not in known:
        raise InputError(f"--{name} {value!r} is not usable: {one_of(value, known)}")


def one_of(given: str, known: Collection[str]) -> str:
    """Part of a sentence on a word that is none of some: which they are, and which of them come near."""
    return f"it is one of {', '.join(known)}.{did_you_mean(given, known)}"


def unknown(noun: str, name: object, known: Iterable[object], more: str = "") -> InputError:
    """The error that says that a name is none of some words, and which of them come near.

    Args:
        noun: what the words name, for instance ``method``.
        name: that was given.
        known: the words.
        more: what may be given besides, as the sentence goes on, for instance ``", or a file"``.
    """
    words = list(map(str, known))
    return InputError(
        f"No {noun} is called {name!r}: choose one of {', '.join(words)}{more}.{did_you_mean(str(name), words)}"
    )

"""The command line: parses, calls the workspace, prints."""

import atexit
import errno
import re
import signal
import sys
import traceback
from collections.abc import Sequence

MISPLACED = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
"""Numbers of the errors of a file where a folder belongs, and of a folder where a file does."""


def main() -> None:
    """Run ``evergallery``; an error is one line on standard error and an exit status, see ``errors.EXIT_STATUSES``.

    A fault of this package itself also has its traceback.
    """
    import typer

    from evergallery.cli.app import app
    from evergallery.cli.console import Terminal
    from evergallery.errors import EvergalleryError

    # Registered last, so that it is the first to run.
    atexit.unregister(_end_in_peace)
    atexit.register(_end_in_peace)
    # typer brings a copy of click whose exceptions it does not export, but for this one and what it is made of.
    usage: type[Exception] = typer.BadParameter.__mro__[1]
    Terminal.workspace, Terminal.hides_progress = None, False
    try:
        _require_values(sys.argv[1:])
        status = app(standalone_mode=False, prog_name="evergallery")
    except (EvergalleryError, usage) as error:
        message = str(error) if isinstance(error, EvergalleryError) else _usage(error)
        if message:
            _tell(message)
        sys.exit(error.exit_status if isinstance(error, EvergalleryError) else 2)
    except OSError as error:
        reason = _disk(error)
        if reason is not None:
            _tell(reason)
            sys.exit(5)
        if error.errno not in MISPLACED or error.filename is None:
            _internal()
        _tell(
            f"{error.filename} cannot be used ({error.strerror}): something else lies where a file or folder of the workspace "
            f"belongs; move it away, or restore what was there from a backup."
        )
        sys.exit(6)
    except Exception:
        _internal()
    if status == 130:
        _tell("stopped; nothing that was stored is lost, and the same command goes on from there (a demo begins anew).")
    sys.exit(status if isinstance(status, int) else 0)


def _require_values(words: Sequence[str]) -> None:
    """Refuse an empty value: it is a variable of the shell that is not set, and as a path it would mean this directory.

    Raises:
        InputError: there is one.
    """
    from evergallery.errors import InputError

    for place, word in enumerate(words):
        if word == "" or re.fullmatch(r"--?[a-z0-9-]+=", word):
            after = word.removesuffix("=") or (words[place - 1] if place else "evergallery")
            raise InputError(
                f"The value after {after!r} is empty, as an unset variable of the shell is: give a value, or leave it out."
            )


def _end_in_peace() -> None:
    """Let Ctrl-C no longer make a failure of a command that has ended: the interpreter takes a moment to go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _tell(message: str) -> None:
    from evergallery.cli.console import err

    err.print(f"evergallery: {message}", soft_wrap=True)


def _usage(error: Exception) -> str:
    """A mistake on the command line in one sentence, and where the right way stands, a whole line to copy where
    something is missing; empty where help was the answer."""
    context = getattr(error, "ctx", None)
    message = _unusable(error) or " ".join(error.format_message().split())  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        return ""
    message = message.removesuffix(".")
    path = context.command_path if context else "evergallery"
    example = (getattr(context.command, "epilog", None) or "") if context else ""
    if message.startswith("Missing") and example.startswith("Example:"):
        return f"{message}. {example}  ; see  {path} --help"
    return f"{message}{'' if message.endswith('?') else '.'} See  {path} --help"


def _unusable(error: Exception) -> str | None:
    """Return what is wrong with a value that was given, as the verbs say it; ``None`` for any other mistake."""
    from pydantic import ValidationError

    from evergallery.errors import fault_of, one_of

    if not isinstance(error.__cause__, ValidationError):
        return None
    parameter, context = error.param, error.ctx  # type: ignore[attr-defined]
    source = context.get_parameter_source(parameter.name)
    name = parameter.envvar if source is not None and source.name == "ENVIRONMENT" else max(parameter.opts, key=len)
    first = error.__cause__.errors()[0]
    given, fault = str(first["input"]), fault_of(error.__cause__)
    if choices := fault.partition(" is not one of ")[2]:
        fault = one_of(given, [choice.strip("'") for choice in choices.split(", ")])
    is_number = given.removeprefix("-").replace(".", "", 1).isdecimal()
    return f"{name} {given if is_number else repr(given)} is not usable: {fault}"


def _disk(error: OSError) -> str | None:
    """Return what a disk that takes nothing has to say; ``None`` for any other fault."""
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{error.filename or 'a file'} cannot be used ({error.strerror}): the disk is read-only, or permission is denied; "
            f"give it, or work on a copy."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: make room; nothing that was stored is lost, and the same command goes on from there."
    return None


def _internal() -> None:
    traceback.print_exc()
    _tell(
        "this is a fault of Evergallery's own: please report it with the lines above. What was stored is as it was; "
        "evergallery doctor  verifies it."
    )
    sys.exit(70)

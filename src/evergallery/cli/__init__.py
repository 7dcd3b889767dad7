"""The command line: parses, calls the workspace, prints."""

import errno
import sys


def main() -> None:
    """Run ``evergallery``; an error is one line on standard error and an exit status, never a traceback."""
    from evergallery.cli.app import app
    from evergallery.errors import EvergalleryError

    try:
        app()
    except SystemExit as stop:
        if _was_interrupted(stop):
            print(
                "evergallery: stopped; nothing that was stored is lost, and the same command goes on from there "
                "(a demo begins anew).",
                file=sys.stderr,
            )
            sys.exit(130)
        raise
    except EvergalleryError as error:
        print(f"evergallery: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            print(
                f"evergallery: {error.filename or 'a file'} cannot be used ({error.strerror}): the disk is read-only, or "
                f"permission is denied; give it, or work on a copy.",
                file=sys.stderr,
            )
            sys.exit(1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"evergallery: {error.strerror}: make room; nothing that was stored is lost, and the same command goes on from "
            f"there.",
            file=sys.stderr,
        )
        sys.exit(1)


def _was_interrupted(stop: SystemExit) -> bool:
    """Whether Ctrl-C is what ended the command: typer swallows it, but it stays in the chain of causes."""
    cause = stop.__context__
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__context__
    return False

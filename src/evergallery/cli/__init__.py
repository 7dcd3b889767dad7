"""The command line: parses, calls the workspace, prints."""

import sys


def main() -> None:
    """Run ``evergallery``; an error is one line on standard error and an exit status, never a traceback."""
    from evergallery.cli.app import app
    from evergallery.errors import EvergalleryError

    try:
        app()
    except EvergalleryError as error:
        print(f"evergallery: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print(
            "evergallery: stopped; nothing that was stored is lost, and the same command goes on from there.",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)

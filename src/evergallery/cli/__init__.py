"""The command line: parses, calls the workspace, prints."""

import sys


def main() -> None:
    """Run ``evergallery``; an error is one line on standard error and an exit status, never a traceback."""
    import typer

    from evergallery.cli.app import app
    from evergallery.errors import EvergalleryError

    try:
        app()
    except SystemExit as stop:
        if isinstance(stop.__context__, typer.Abort):
            print(
                "evergallery: stopped; nothing that was stored is lost, and the same command goes on from there.",
                file=sys.stderr,
            )
            sys.exit(130)
        raise
    except EvergalleryError as error:
        print(f"evergallery: {error}", file=sys.stderr)
        sys.exit(error.exit_status)

"""``evergallery serve`` and ``evergallery token``: the HTTP API and who may use it."""

from typing import Annotated

import typer

from evergallery.cli.common import HERE, WorkspaceOption


def serve(
    workspace: WorkspaceOption = HERE,
    host: Annotated[str, typer.Option(help="Address to listen at; any but loopback needs tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8765,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="On loopback, let everyone do everything without a token.")
    ] = False,
) -> None:
    """Serve the gallery: an HTTP API, and a page at the same address."""
    from evergallery.errors import MissingExtraError

    try:
        from evergallery.serving.server import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "evergallery":
            raise
        raise MissingExtraError("Serving over HTTP", "serve") from error
    run(workspace, host=host, port=port, allow_writes=allow_writes)

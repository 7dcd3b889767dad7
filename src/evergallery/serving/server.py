"""The process: one server at one address, until it is told to stop."""

from pathlib import Path

import uvicorn

from evergallery.serving.app import create_app
from evergallery.workspace import Workspace


def run(directory: Path, *, host: str, port: int, allow_writes: bool) -> None:
    """Serve a workspace until SIGTERM or Ctrl-C."""
    app = create_app(Workspace(directory.resolve()), anonymous="admin" if allow_writes else "read")
    uvicorn.run(app, host=host, port=port, log_level="warning")

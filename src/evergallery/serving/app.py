"""The application: the routes, what stands before them, and how it begins and ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from evergallery._version import __version__
from evergallery.serving.failures import RESPONSES, explain_failures
from evergallery.serving.limits import Limits
from evergallery.serving.routes import generations, items, operating, searching
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service
from evergallery.serving.tokens import Tokens
from evergallery.workspace import Workspace

PAGE = Path(str(files("evergallery.serving") / "page"))


def create_app(workspace: Workspace, *, limits: Limits | None = None, anonymous: Scope | None = "read") -> FastAPI:
    """An application that serves a workspace.

    Args:
        workspace: its gallery is opened when the application starts, and closed when it ends.
        limits: of what a request may ask for.
        anonymous: what callers without a token may do while the workspace has no tokens; ``None`` for nothing.
    """
    service = Service(workspace, limits or Limits())

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.events.start()
        await service.run(service.open)
        try:
            yield
        finally:
            service.close()

    app = FastAPI(
        title="Evergallery",
        summary="Visual search whose gallery outlives its model.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=RESPONSES,
    )
    app.state.service = service
    app.state.tokens = Tokens(workspace.directory)
    app.state.anonymous = anonymous
    for module in (searching, items, generations, operating):
        app.include_router(module.router, prefix="/api/v1")
    explain_failures(app)

    @app.get("/healthz", tags=["health"])
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    async def readiness() -> JSONResponse:
        """Whether the gallery is open and the model that answers is loaded."""
        return JSONResponse({"status": "ready" if service.ready else "not ready"}, 200 if service.ready else 503)

    if (PAGE / "index.html").is_file():
        app.mount("/static", StaticFiles(directory=PAGE), name="static")

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            """The page."""
            return FileResponse(PAGE / "index.html")

    return app

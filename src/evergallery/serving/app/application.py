"""The application: the routes, what every request passes before them, and how it begins and ends."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from evergallery._version import __version__
from evergallery.serving.access import Access, Authentication
from evergallery.serving.failures import RESPONSES, UnexpectedErrors, explain_failures
from evergallery.serving.guards import KnownHosts, SecurityHeaders, UnreadBodies
from evergallery.serving.logs import RequestLog
from evergallery.serving.routes import generations, health, items, local, marking, operating, searching, upgrading
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service, ServiceSettings
from evergallery.serving.tokens import Tokens

PAGE = Path(str(files("evergallery.serving") / "page"))
ABOUT = """
Ids and URIs of items are any text, and so are given as parameters or in bodies, never in paths. Whatever goes wrong is
answered by `{"error": {"code", "message"}}`, the message one sentence for a person. Where the server asks for a token, it is
given as `Authorization: Bearer TOKEN`.
"""


def create_app(
    directory: Path,
    settings: ServiceSettings | None = None,
    *,
    anonymous: Scope | None = "read",
    names: Collection[str] | None = None,
) -> FastAPI:
    """An application that serves a workspace; its gallery is opened when it starts, and closed when it ends.

    Args:
        directory: of the workspace.
        settings: how it is served.
        anonymous: what callers without a token may do while the workspace demands none; ``None`` for nothing.
        names: hosts that the server is called by; ``None`` for any.

    Raises:
        NotFoundError: there is no workspace.
    """
    service = Service(directory, settings or ServiceSettings())

    app = FastAPI(
        title="Evergallery",
        summary="Visual search whose gallery outlives its model.",
        description=ABOUT,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lambda _: _life(service),
        responses=RESPONSES,
    )
    access = Access(Tokens(service.holdings.directory), anonymous, lambda: service.holdings.state.require_token)
    app.state.service, app.state.access = service, access
    for module in (searching, items, marking, generations, operating, upgrading):
        app.include_router(module.router)
    app.include_router(health.router)
    app.include_router(local.router)
    explain_failures(app, service.explain)
    _guard(app, service, access, names)
    if (PAGE / "index.html").is_file():
        _show_page(app)
    return app


@asynccontextmanager
async def _life(service: Service) -> AsyncIterator[None]:
    """Open the gallery, tell what changes as long as the server runs, and close it."""
    service.events.start()
    await service.threads.run(service.open)
    watching = asyncio.create_task(service.watch())
    try:
        yield
    finally:
        watching.cancel()
        if service.searches.shadow is not None:
            service.searches.shadow.close()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(service.close)


def _guard(app: FastAPI, service: Service, access: Access, names: Collection[str] | None) -> None:
    """Add what every request passes before its route; the last one added is passed first."""
    app.add_middleware(Authentication, access=access, limits=service.limits)
    app.add_middleware(KnownHosts, names=names)
    app.add_middleware(UnexpectedErrors, explain=service.explain)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=service.metrics)
    app.add_middleware(UnreadBodies, limits=service.limits)


def _show_page(app: FastAPI) -> None:
    """Serve the page at the root."""
    app.mount("/static", StaticFiles(directory=PAGE), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        """The page."""
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

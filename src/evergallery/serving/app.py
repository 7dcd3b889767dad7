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
from evergallery.serving.access import Access, KnownCallers
from evergallery.serving.canary import Canarying
from evergallery.serving.drift import REFERENCE
from evergallery.serving.failures import RESPONSES, Unforeseen, explain_failures
from evergallery.serving.guards import LeftBodies, OwnNames, SecurityHeaders
from evergallery.serving.limits import Limits
from evergallery.serving.logs import RequestLog
from evergallery.serving.routes import generations, health, items, marking, operating, searching, upgrading
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service
from evergallery.serving.shadow import Shadowing
from evergallery.serving.tokens import Tokens

PAGE = Path(str(files("evergallery.serving") / "page"))
ABOUT = """
Ids and URIs of items are any text, and so are given as parameters or in bodies, never in paths. Whatever goes wrong is
answered by `{"error": {"code", "message"}}`, the message one sentence for a person. Where the server asks for a token, it is
given as `Authorization: Bearer TOKEN`.
"""


def create_app(
    directory: Path,
    *,
    limits: Limits | None = None,
    anonymous: Scope | None = "read",
    names: Collection[str] | None = None,
    backups: Path | None = None,
    shadowing: Shadowing | None = None,
    canarying: Canarying | None = None,
    drift_reference: int = REFERENCE,
) -> FastAPI:
    """An application that serves a workspace; its gallery is opened when it starts, and closed when it ends.

    Args:
        directory: of the workspace.
        limits: of what a request may ask for.
        anonymous: what callers without a token may do while the workspace demands none; ``None`` for nothing.
        names: hosts that the server is called by; ``None`` for any.
        backups: where snapshots go; ``backups`` in the workspace by default.
        shadowing: which generation answers a sample of the searches too, and how.
        canarying: which generation answers some of the clients, and how.
        drift_reference: searches with which later ones are compared, to see whether queries drift; 0 for none.

    Raises:
        NotFoundError: there is no workspace.
    """
    limits = limits or Limits()
    service = Service(directory, limits, backups, shadowing, canarying, drift_reference)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
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

    app = FastAPI(
        title="Evergallery",
        summary="Visual search whose gallery outlives its model.",
        description=ABOUT,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=RESPONSES,
    )
    access = Access(Tokens(service.workspace.directory), anonymous, lambda: service.workspace.state.require_token)
    app.state.service, app.state.access = service, access
    for module in (searching, items, marking, generations, operating, upgrading):
        app.include_router(module.router)
    app.include_router(health.router)
    explain_failures(app, service.explain)
    # The last one added is passed first.
    app.add_middleware(KnownCallers, access=access, limits=limits)
    app.add_middleware(OwnNames, names=names)
    app.add_middleware(Unforeseen, explain=service.explain)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=service.metrics)
    app.add_middleware(LeftBodies, limits=limits)

    if (PAGE / "index.html").is_file():
        app.mount("/static", StaticFiles(directory=PAGE), name="static")

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            """The page."""
            return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    return app

"""For whoever runs the server: does it live, is it ready, what has it done."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.bodies import GuardedRoute

router = APIRouter(route_class=GuardedRoute, tags=["health"])


@router.get("/healthz")
async def health() -> schemas.Health:
    """Return whether the process lives."""
    return schemas.Health(status="alive")


@router.get("/readyz", responses={503: {"model": schemas.Health, "description": "Not ready, or about to end."}})
async def readiness(service: Served, response: Response) -> schemas.Health:
    """Return whether the gallery is open and the model that answers is loaded."""
    if not service.ready:
        response.status_code = 503
    return schemas.Health(status="ready" if service.ready else "not ready")


@router.get(
    "/metrics",
    dependencies=[Depends(Admission("read"))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "The metrics, as Prometheus reads them."}},
)
async def metrics(service: Served) -> Response:
    """Requests, latencies, batches, items by generation, the running job, problems."""
    return Response(await service.threads.run(service.prometheus), media_type=CONTENT_TYPE_LATEST)

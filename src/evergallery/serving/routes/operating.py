"""Routes of the workspace: where it stands, work in the background, events."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from evergallery.errors import NotFoundError
from evergallery.serving import schemas
from evergallery.serving.access import Access, Admission, Called, Served
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.service import Service
from evergallery.strings.redaction import redacted_values
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

TOLD = {
    "time", "operation", "generation", "parent", "method", "before", "left", "forced", "refused", "judged",
    "conditions", "verdict", "reason", "why", "against", "refresh", "adapter", "kind", "direction", "order",
    "fraction", "refreshed", "remaining", "problems", "stopped_by", "seconds", "added", "replaced",
    "unchanged", "conflicts", "skipped", "deleted", "vectors", "images", "new_classes", "recall", "cross",
    "own", "cosine", "checks", "pairs", "measure", "in_sample", "out_of_sample", "numbers", "compared",
}  # fmt: skip
"""The fields of an operation that everybody who may read is told: neither who did it, nor with which files."""

MOST_TOLD = 200
"""Groups of near duplicates, and items of each."""

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["operation"])
reading, deciding = [Depends(Admission("read"))], [Depends(Admission("admin"))]


@router.get("/me")
async def me(caller: Called) -> schemas.CallerRights:
    """Return what this caller may do."""
    return schemas.CallerRights(scopes=list(caller.scopes), anonymous=caller.anonymous)


@router.get("/info", dependencies=reading)
async def info(service: Served, caller: Called) -> schemas.Info:
    """Return what this server is."""
    return await service.threads.run(service.info, writes="write" in caller.scopes)


@router.get("/status", dependencies=reading)
async def status(service: Served) -> schemas.Status:
    """Items by state and generation, the open refresh, the running job, the way back."""
    return await service.threads.run(service.status)


@router.get("/problems", dependencies=reading)
async def problems(
    service: Served,
    after: Annotated[str | None, Query(max_length=4096)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> schemas.Problems:
    """Items that keep an old vector, and why, in order of ids."""
    every = await service.threads.run(service.holdings.notes.problems)
    known = [problem for problem in every if after is None or problem.item > after]
    page = [
        schemas.ItemProblem(id=problem.item, state=problem.kind, reason=service.told(problem.reason))
        for problem in known[:limit]
    ]
    return schemas.Problems(problems=page, next=page[-1].id if len(known) > limit else None)


@router.get("/log", dependencies=reading)
async def log(service: Served, caller: Called, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> schemas.Log:
    """Return what was done to this workspace, newest first. Who did it, on which machine and with which files, is for `admin`."""
    entries = await service.threads.run(service.holdings.journal.last, limit)
    everything = "admin" in caller.scopes
    return schemas.Log(log=[_entry(service, entry, everything) for entry in reversed(entries)])


@router.get(
    "/events",
    dependencies=reading,
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events `job`, `status` and `promoted`."}},
)
async def events(request: Request, service: Served, caller: Called) -> StreamingResponse:
    """Return what changes, as server-sent events; the present state comes first."""

    def allowed() -> bool:
        access: Access = request.app.state.access
        return access.caller(request.headers.get("authorization", "")) == caller

    present: dict[str, dict[str, Any]] = {"status": (await service.threads.run(service.status)).model_dump()}
    if service.jobs.last is not None:
        present["job"] = service.jobs.last.to_dict()
    stream = service.events.listen(present, allowed)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/job", dependencies=reading)
async def job(service: Served) -> schemas.Job:
    """The running job, or the last one."""
    if service.jobs.last is None:
        raise NotFoundError("No job has run since the server was started.")
    return schemas.Job.model_validate(service.jobs.last.to_dict())


@router.delete("/job", dependencies=deciding)
async def stop(service: Served) -> schemas.Job:
    """Stop the running job; a refresh goes on from there when it is started again."""
    return schemas.Job.model_validate(service.jobs.stop().to_dict())


@router.post("/duplicates", status_code=202, dependencies=[Depends(Admission("write"))])
async def duplicates(body: schemas.DuplicatesRequest, service: Served) -> schemas.Job:
    """Look for groups of stored items that show nearly the same; the largest first, up to 200."""

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        found = workspace.near_duplicates(at_least=body.at_least, watcher=watcher)
        groups = [
            {"items": list(group.items[:MOST_TOLD]), "count": len(group.items), "least": group.least}
            for group in found.groups
        ]
        return {"groups": groups[:MOST_TOLD], "count": len(groups), "looked": found.looked, "left": found.left}

    return service.begin("duplicates", body.model_dump(), work)


@router.delete("/drift", dependencies=deciding)
async def forget_drift(service: Served) -> schemas.Status:
    """Begin a new reference: what is searched for from now on is what later queries are compared with."""
    if service.drift is None:
        raise NotFoundError("This server compares no queries: start it with --drift-reference 2000.")
    await service.threads.run(service.drift.forget)
    return await service.threads.run(service.status)


@router.post("/snapshot", status_code=202, dependencies=deciding)
async def snapshot(service: Served) -> schemas.Job:
    """Copy the gallery into the server's directory of backups, under the present time, while searches go on."""
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        service.backups.mkdir(parents=True, exist_ok=True)
        return {"name": name, "vectors": workspace.snapshot(service.backups / name, watcher=watcher).vectors}

    return service.begin("snapshot", {}, work)


def _entry(service: Service, entry: dict[str, Any], everything: bool) -> dict[str, Any]:
    told: dict[str, Any] = redacted_values(entry)
    if everything:
        return told
    return {name: _without_place(service, value) for name, value in told.items() if name in TOLD}


def _without_place(service: Service, value: Any) -> Any:
    if isinstance(value, list):
        return [_without_place(service, part) for part in value]
    return service.told(value) if isinstance(value, str) else value

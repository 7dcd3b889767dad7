"""Measuring, mapping and refreshing: work in the background, and the held-out pictures that it measures on."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile

from evergallery.errors import InputError
from evergallery.holdings.answer import Answer
from evergallery.holdings.spaces import Space
from evergallery.retrieval.bootstrap import wilson
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.failures import DeniedError
from evergallery.serving.forms import read_upload
from evergallery.serving.jobs import Kind
from evergallery.serving.service import Service
from evergallery.upgrade import refreshing, settling
from evergallery.upgrade.check import EVERY, PROMOTED, Check
from evergallery.upgrade.held_out import MARKED, STORED
from evergallery.upgrade.plan import Plan
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

Work = Callable[[Workspace, Watcher], dict[str, Any]]

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["operation"])
reading, deciding = [Depends(Admission("read"))], [Depends(Admission("admin"))]


# Held-out pictures


@router.get("/held-out", dependencies=reading)
async def held_out(service: Served) -> schemas.HeldOutPictures:
    """Return which held-out pictures are kept to check with."""
    return await service.threads.run(service.held_out.told)


@router.post("/held-out", dependencies=[Depends(Admission("admin", "pictures"))])
async def add_held_out(
    service: Served,
    image: Annotated[list[UploadFile], File(description="Pictures that no generation has learned from.")],
    label: Annotated[list[str], Form(description="Labels of the pictures, in their order; or one of all.")],
) -> schemas.HeldOutPictures:
    """Keep held-out pictures to check with, in `held-out/LABEL` of the workspace, until they are deleted."""
    if len(image) > service.limits.images:
        raise DeniedError(413, f"There are {len(image)} pictures: send up to {service.limits.images} at a time.")
    read = [(picture.filename or "picture", await read_upload(picture, service.limits)) for picture in image]
    return await service.threads.run(service.held_out.add, read, label)


@router.delete("/held-out", dependencies=deciding)
async def clear_held_out(service: Served) -> schemas.HeldOutPictures:
    """Delete the held-out pictures that are kept."""
    return await service.threads.run(service.held_out.clear)


# Work


@router.post("/check", status_code=202, dependencies=deciding)
async def check(body: schemas.CheckRequest, service: Served) -> schemas.Job:
    """Measure a generation as evidence for the gate: on the stored items that have a label, or on held-out pictures."""
    data = _images(service, body.data)
    way = None if body.answer is None and body.candidates is None else Answer.of(body.answer, body.candidates)

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        found = workspace.check(
            body.generation, data, against=body.against, old_classes=body.old_classes, answer=way, watcher=watcher
        )
        return _checked(found)

    return _begin(service, "check", body, work)


@router.post("/matrix", status_code=202, dependencies=deciding)
async def fill_matrix(body: schemas.MatrixRequest, service: Served) -> schemas.Job:
    """Measure every generation in the vectors of every older one where no check has; what checks have shown stays."""
    data = _images(service, body.data)

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        # Loads what measures, which a server that only searches does without.
        from evergallery.upgrade.checking import check_missing

        return {"checks": [_checked(check) for check in check_missing(workspace.holdings, data, watcher=watcher)]}

    return service.begin("matrix", body.model_dump(), work)


@router.post("/adapt", status_code=202, dependencies=deciding)
async def adapt(body: schemas.AdaptRequest, service: Served) -> schemas.Job:
    """Make a map between two generations; it serves once a check has shown that it may."""
    spaces = [Space(service.holdings.generation(name)) for name in (body.generation, body.against)]
    spaces[0].require_other(spaces[1])
    if body.data == "marks":
        raise InputError(
            "An adapter is fitted to pictures: choose the stored items, or the held-out pictures that were sent."
        )
    data = _images(service, body.data)

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        made = workspace.adapt(body.generation, body.against, data, direction=body.direction, watcher=watcher)
        chosen = made.selection.chosen
        return {
            "adapter": made.adapter.name,
            "kind": made.selection.name,
            "pairs": made.selection.pairs,
            "in_sample": chosen.in_sample.recall,
            "out_of_sample": chosen.worse.recall,
            "warning": made.selection.warning,
        }

    return _begin(service, "adapt", body, work)


@router.post("/plan", status_code=202, dependencies=deciding)
async def plan(body: schemas.PlanRequest, service: Served) -> schemas.Job:
    """Return what a refresh would cost, and what each share of it is expected to give; nothing is changed."""

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        return _planned(workspace.plan(body.generation, adapter=body.adapter, watcher=watcher))

    return _begin(service, "plan", body, work)


@router.post("/refresh", status_code=202, dependencies=deciding)
async def refresh(body: schemas.RefreshRequest, service: Served) -> schemas.Job:
    """Give stored items new vectors; one that was stopped goes on."""

    def work(workspace: Workspace, watcher: Watcher) -> dict[str, Any]:
        done = workspace.refresh(
            body.generation,
            adapter=body.adapter,
            order=body.order,
            fraction=body.fraction,
            budget=body.budget_seconds,
            until=body.until,
            rate=body.rate,
            batch=refreshing.BATCH,
            watcher=watcher,
        )
        return {**vars(done), "problems": len(done.problems)}

    return _begin(service, "refresh", body, work)


@router.post("/commit", status_code=202, dependencies=deciding)
async def commit(service: Served) -> schemas.Job:
    """Give up the earlier vectors of refreshed items for good."""
    await service.threads.run(settling.require_shown, service.holdings, service.holdings.state)
    return service.begin("commit", {}, lambda workspace, watcher: {"deleted": workspace.commit(watcher=watcher)})


@router.post("/discard", status_code=202, dependencies=deciding)
async def discard(service: Served) -> schemas.Job:
    """Give up the new vectors of the open refresh."""
    settling.require_open(service.holdings.state)
    return service.begin("discard", {}, lambda workspace, watcher: {"deleted": workspace.discard(watcher=watcher)})


def _images(service: Service, data: schemas.CheckData) -> str | Path:
    named = {"stored": STORED, "marks": MARKED}
    return named[data] if data in named else service.held_out.require()


def _begin(
    service: Service, kind: Kind, body: schemas.PlanRequest | schemas.CheckRequest | schemas.AdaptRequest, work: Work
) -> schemas.Job:
    # What can be told at once is told at once, and not as a job that failed.
    service.holdings.generation(body.generation)
    if isinstance(body, schemas.PlanRequest) and body.adapter is not None:
        service.holdings.adapter(body.adapter)
    if isinstance(body, schemas.CheckRequest) and body.against not in (None, PROMOTED, EVERY):
        service.holdings.space(body.against)
    return service.begin(kind, body.model_dump(exclude_none=True), work)


def _checked(found: Check) -> dict[str, Any]:
    pairs = [
        {
            "new": pair.evidence.new,
            "old": pair.evidence.old,
            "verdict": pair.verdict,
            "reason": pair.reason,
            "passed": pair.passed,
            "conditions": [str(condition) for condition in pair.conditions],
        }
        for pair in found.pairs
    ]
    return {"passed": found.passed, "verdict": found.verdict, "conclusion": found.conclusion, "pairs": pairs}


def _planned(plan: Plan) -> dict[str, Any]:
    orders = {}
    for order, recalls in plan.recall.items():
        orders[order] = [
            dict(
                zip(("fraction", "recall", "low", "high"), (share, recall, *wilson(recall, plan.queries)), strict=True)
            )
            for share, recall in zip(plan.shares, recalls, strict=True)
        ]
    return {**plan.to_dict(), "orders": orders, "best_order": plan.best_order()}

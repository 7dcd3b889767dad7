"""Generations, and which of them answers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from evergallery.holdings.answer import Answer, Way
from evergallery.serving import lineage, schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.bodies import GuardedRoute

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["generations"])
reading, deciding = [Depends(Admission("read"))], [Depends(Admission("admin"))]
Named = Annotated[str, Path(max_length=200)]


@router.get("/generations", dependencies=reading)
async def generations(service: Served) -> schemas.Generations:
    """Every generation, oldest first."""
    return await service.threads.run(lineage.generations, service.holdings)


@router.get("/generations/{name}", dependencies=reading)
async def generation(name: Named, service: Served) -> schemas.GenerationDetail:
    """One generation, with the names of its classes."""
    return await service.threads.run(lineage.generation, service.holdings, name)


@router.get("/matrix", dependencies=reading)
async def matrix(service: Served) -> schemas.Matrix:
    """Recall@1 of queries of each generation in the vectors of each space, as the last checks measured it."""
    return await service.threads.run(lineage.matrix, service.holdings)


@router.get("/gate/{generation}", dependencies=reading)
async def gate(
    generation: Named,
    service: Served,
    answer: Annotated[Way | None, Query(description="How it would answer; see `/promote`.")] = None,
    candidates: Annotated[int | None, Query(ge=10, le=1000)] = None,
) -> schemas.Gate:
    """Return whether a generation may answer queries, condition by condition, and what its promotion would change."""
    chosen = None if answer is None and candidates is None else Answer.of(answer, candidates)
    found = await service.threads.run(lineage.gate, service.holdings, generation, chosen)
    return found.model_copy(update={"reason": service.told(found.reason)})


@router.get("/ways/{generation}", dependencies=reading)
async def ways(generation: Named, service: Served) -> schemas.Ways:
    """The ways in which a generation could answer, with what each gives and costs, as the last check has measured them."""
    return await service.threads.run(lineage.ways, service.holdings, generation)


@router.post("/promote", dependencies=deciding)
async def promote(body: schemas.PromotionRequest, service: Served) -> schemas.PromotionResult:
    """Let a generation answer queries from now on. Its model is loaded first; no request fails or sees a blend."""
    given = body.answer is not None or body.candidates is not None or body.seconds is not None
    chosen = Answer.of(body.answer, body.candidates, body.seconds) if given else None
    done = await service.threads.run(service.promote, body.generation, answer=chosen, force=body.force, why=body.why)
    status = await service.threads.run(service.status)
    return schemas.PromotionResult(
        **status.model_dump(),
        changed=done.changed,
        sentence=service.told(str(done)),
        judged=done.judged,
        scores=done.scores,
        refused=None if done.refused is None else service.told(done.refused),
        conditions=lineage.told_conditions(done.conditions),
    )


@router.post("/rollback", dependencies=deciding)
async def rollback(service: Served) -> schemas.Status:
    """Let the generation that was promoted before answer again, over the vectors that it searched."""
    await service.threads.run(service.rollback)
    return await service.threads.run(service.status)

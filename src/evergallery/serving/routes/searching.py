"""Searching by vector, by stored item, by picture."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from pydantic import ValidationError

from evergallery.errors import EvergalleryError, InputError, fault_of
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Called, Served
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.failures import status_of
from evergallery.serving.forms import metadata_of, read_upload

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["search"])


async def drawn_by(request: Request, service: Served, caller: Called) -> bool:
    """Return whether the canary answers whoever makes a request."""
    canary = service.searches.canary
    if canary is None:
        return False
    address = request.client.host if request.client else ""
    return canary.drawn(None if caller.anonymous else caller.name, address, request.headers)


Drawn = Annotated[bool, Depends(drawn_by)]


@router.post("/search", dependencies=[Depends(Admission("read"))])
async def search(body: schemas.Search, service: Served, drawn: Drawn) -> schemas.Answer:
    """Find the stored items most like a vector, or like a stored item."""
    return await service.searches.by_stored(body, drawn=drawn)


@router.post("/search/image", dependencies=[Depends(Admission("read", "picture"))])
async def search_image(
    service: Served,
    drawn: Drawn,
    image: Annotated[
        list[UploadFile],
        File(max_length=schemas.MOST_LIKE, description="The picture to search with, or several; not kept."),
    ],
    more: Annotated[list[str] | None, Form(description="Ids of items that results should be like too.")] = None,
    less: Annotated[list[str] | None, Form(description="Ids of items that results should not be like.")] = None,
    generation: Annotated[
        str | None, Form(description="Generation that embeds the query; the promoted one by default.")
    ] = None,
    k: Annotated[int, Form(ge=1, le=schemas.MOST_RESULTS)] = 10,
    labels: Annotated[list[str] | None, Form()] = None,
    generations: Annotated[list[str] | None, Form()] = None,
    metadata: Annotated[str | None, Form(description="A JSON object.")] = None,
    min_score: Annotated[float | None, Form(ge=-1, le=1)] = None,
    min_score_of: Annotated[str | None, Form(description="Whose scores `min_score` is of.")] = None,
    min_probability: Annotated[float | None, Form(gt=0, lt=1)] = None,
    exact: Annotated[bool | None, Form()] = None,
    vectors: Annotated[
        schemas.Searched, Form(description="`own` to search in vectors of `generation` alone.")
    ] = "searched",
) -> schemas.Answer:
    """Find the stored items most like an uploaded picture, or like several."""
    try:
        options = schemas.SearchOptions(
            generation=generation or None,
            k=k,
            labels=labels,
            generations=generations,
            metadata=metadata_of(metadata),
            min_score=min_score,
            min_score_of=min_score_of or None,
            min_probability=min_probability,
            exact=exact,
            vectors=vectors,
            more=more or [],
            less=less or [],
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {fault_of(error)}.") from error
    pictures = [await read_upload(picture, service.limits) for picture in image]
    return await service.searches.by_pictures(pictures, options, drawn=drawn)


@router.post("/search/batch", dependencies=[Depends(Admission("read", "many"))])
async def search_batch(body: schemas.SearchBatch, service: Served, drawn: Drawn) -> schemas.BatchAnswer:
    """Several searches, all answered from the same state; a query that fails does not fail the others."""
    state = service.holdings.state

    async def answer(query: schemas.Search) -> schemas.Answer | schemas.ErrorAnswer:
        try:
            return await service.searches.by_stored(query, state, drawn=drawn)
        except EvergalleryError as error:
            problem = schemas.Problem(code=status_of(error)[1], message=service.explain(error))  # type: ignore[arg-type]
            return schemas.ErrorAnswer(error=problem)

    return schemas.BatchAnswer(answers=list(await asyncio.gather(*map(answer, body.queries))))

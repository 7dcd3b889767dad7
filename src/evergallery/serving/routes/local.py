"""Answering for commands of this machine, which come through the socket in the workspace; see ``serving.local``."""

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, Response, UploadFile
from pydantic import ValidationError

from evergallery.data.images.decoding import largest_image
from evergallery.errors import EvergalleryError, InputError, fault_of
from evergallery.holdings.embedding import UNNAMED
from evergallery.holdings.holdings import Holdings
from evergallery.searching import searching
from evergallery.searching.rows import listed, result_rows, shown
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.asking import TOLD
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.describing import filter_of
from evergallery.serving.forms import read_upload
from evergallery.serving.local import TERMS, terms
from evergallery.serving.service import Service
from evergallery.strings.redaction import redacted_values

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Question = TypeVar("Question", bound=schemas.Body)


async def through_socket(request: Request) -> None:
    """Let only those pass who come through the socket in the workspace, which has no port."""
    server = request.scope.get("server")
    if server is None or server[1] is not None:
        raise HTTPException(404)


Through = Depends(through_socket)


@router.get(TERMS, dependencies=[Depends(Admission("read")), Through])
async def told_terms(service: Served) -> dict[str, Any]:
    """On which terms this server answers for a command."""
    return terms(service.holdings.directory)


@router.post(f"{TERMS}/search", dependencies=[Depends(Admission("read", "picture")), Through])
async def search(
    service: Served,
    question: Annotated[str, Form()],
    picture: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Return what the search of a command finds, as the command tells it."""
    looked_for = _read(schemas.LocalSearch, question)
    if picture is not None and service.limits.upload_pixels != largest_image():
        raise HTTPException(409, "This server takes pictures of another size.")
    data = None if picture is None else await read_upload(picture, service.limits)

    def find(holdings: Holdings) -> list[dict[str, Any]]:
        where = filter_of(holdings, looked_for.labels, looked_for.within, None)
        options = looked_for.model_dump(exclude={"labels", "within", "named"})
        return result_rows(holdings, searching.search(holdings, data, where=where, **options))

    return await _answered(service, find, looked_for.named)


@router.post(f"{TERMS}/items", dependencies=[Depends(Admission("read")), Through])
async def items(service: Served, question: Annotated[str, Form()]) -> Response:
    """Return the items that a command lists, as the command tells them."""
    wanted = _read(schemas.LocalItems, question)
    return await _answered(
        service,
        lambda holdings: listed(holdings, filter_of(holdings, wanted.labels, wanted.within, None), wanted.limit),
    )


@router.post(f"{TERMS}/item", dependencies=[Depends(Admission("read")), Through])
async def item(service: Served, question: Annotated[str, Form()]) -> Response:
    """Return the item that a command shows, as the command tells it."""
    wanted = _read(schemas.LocalItem, question)
    return await _answered(service, lambda holdings: shown(holdings, wanted.item))


def _read(schema: type[Question], text: str) -> Question:
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"The question cannot be read: {fault_of(error)}.") from error


async def _answered(service: Service, answer: Callable[[Holdings], Any], named: str | None = None) -> Response:
    """Return what a question is answered, or the error that says something of it; ``named`` is what a picture is called there."""

    def told(holdings: Holdings) -> dict[str, Any]:
        try:
            return {"answer": answer(holdings), "error": None}
        except EvergalleryError as error:
            kind = next((name for name, known in TOLD.items() if isinstance(error, known)), None)
            if kind is None:
                raise
            message = str(error).replace(UNNAMED, named or UNNAMED, 1)
            return {
                "answer": None,
                "error": {"kind": kind, "message": message, "directory": str(holdings.directory)},
            }

    content = redacted_values(await service.threads.run(told, service.holdings))
    # Names of files may hold what is no text; they pass as JSON's own escapes.
    return Response(json.dumps(content), media_type="application/json")

"""Answering for commands of this machine, which come through the socket in the workspace; see ``serving.local``."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, Response, UploadFile
from pydantic import ValidationError

from evergallery.data.images.decoding import largest_image
from evergallery.errors import EvergalleryError, InputError, fault_of
from evergallery.holdings.embedding import UNNAMED
from evergallery.holdings.holdings import Holdings
from evergallery.searching import searching
from evergallery.searching.rows import result_rows
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.asking import TOLD
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.describing import filter_of
from evergallery.serving.forms import read_upload
from evergallery.serving.local import SEARCH, TERMS, terms
from evergallery.strings.redaction import redacted_values

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


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


@router.post(SEARCH, dependencies=[Depends(Admission("read", "picture")), Through])
async def search(
    service: Served,
    question: Annotated[str, Form()],
    picture: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Return what the search of a command finds, as the command tells it."""
    try:
        asked = schemas.LocalSearch.model_validate_json(question)
    except ValidationError as error:
        raise InputError(f"The question cannot be read: {fault_of(error)}.") from error
    if picture is not None and service.limits.upload_pixels != largest_image():
        raise HTTPException(409, "This server takes pictures of another size.")
    data = None if picture is None else await read_upload(picture, service.limits)
    answer = await service.threads.run(_answer, service.holdings, asked, data)
    # Names of files may hold what is no text; they pass as JSON's own escapes.
    return Response(json.dumps(redacted_values(answer)), media_type="application/json")


def _answer(holdings: Holdings, asked: schemas.LocalSearch, picture: bytes | None) -> dict[str, Any]:
    try:
        where = filter_of(holdings, asked.labels, asked.within, None)
        options = asked.model_dump(exclude={"labels", "within", "named"})
        found = searching.search(holdings, picture, where=where, **options)
        return {"rows": result_rows(holdings, found), "error": None}
    except EvergalleryError as error:
        kind = next((name for name, known in TOLD.items() if isinstance(error, known)), None)
        if kind is None:
            raise
        message = str(error).replace(UNNAMED, asked.named or UNNAMED, 1)
        told = {"kind": kind, "message": message, "directory": str(holdings.directory)}
        return {"rows": [], "error": told}

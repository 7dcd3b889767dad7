"""Right and wrong: what people say of results, kept for the next check."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Query, UploadFile

from evergallery.errors import NotFoundError
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.describing import stored_item
from evergallery.serving.forms import read_upload
from evergallery.serving.service import Service

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["items"])


@router.get("/marks", dependencies=[Depends(Admission("read"))])
async def marks(
    service: Served,
    query: Annotated[str | None, Query(max_length=4096, description="Only those of this query.")] = None,
) -> schemas.Marks:
    """Return which results people have called right or wrong."""
    return await service.threads.run(_told, service, query)


@router.post("/marks", dependencies=[Depends(Admission("write"))])
async def mark(body: schemas.NewMark, service: Served) -> schemas.Marks:
    """Say that a result is right for a query, or wrong, or take it back; what is known of the query is answered."""
    return await service.threads.run(_say, service, body)


@router.post("/marks/picture", dependencies=[Depends(Admission("write", "picture"))])
async def keep_picture(
    service: Served, image: Annotated[UploadFile, File(description="The picture that was searched with.")]
) -> schemas.KeptPicture:
    """Keep a picture that was searched with, so that its results can be marked and a check can ask it again."""
    data, folder = await read_upload(image, service.limits), service.holdings.marks.pictures
    return schemas.KeptPicture(query=await service.threads.decode(service.pictures.keep_query, data, folder))


def _say(service: Service, body: schemas.NewMark) -> schemas.Marks:
    holdings = service.holdings
    stored_item(holdings, body.item)
    kept = holdings.marks.pictures
    if not (kept.is_dir() and any(path.stem == body.query for path in kept.iterdir())):
        try:
            stored_item(holdings, body.query)
        except NotFoundError as error:
            raise NotFoundError(f"{error} Send the picture that was searched with to  marks/picture  first.") from error
    holdings.marks.say(body.query, body.item, body.right)
    return _told(service, body.query)


def _told(service: Service, query: str | None) -> schemas.Marks:
    known = service.holdings.marks.all()
    return schemas.Marks(
        marks=[schemas.Mark(**vars(mark)) for mark in known if query in (None, mark.query)],
        queries=len({mark.query for mark in known if mark.right}),
    )

"""Stored items: looking at them, adding and deleting them, small pictures of them."""

import json
import math
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile

from evergallery.data.metadata import Scalar
from evergallery.errors import InputError
from evergallery.holdings.holdings import Holdings
from evergallery.serving import schemas
from evergallery.serving.access import Admission, Served
from evergallery.serving.bodies import GuardedRoute
from evergallery.serving.describing import described, filter_of, stored_item
from evergallery.serving.failures import DeniedError
from evergallery.serving.forms import metadata_of, read_upload
from evergallery.serving.service import Service

ItemFilter = tuple[list[str] | None, list[str] | None, dict[str, Scalar]]
"""Labels, generations and metadata of the items that are asked for."""

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["items"])
reading = [Depends(Admission("read"))]
Id = Annotated[str, Query(min_length=1, max_length=4096)]


@router.get("/items", dependencies=reading)
async def items(
    request: Request,
    service: Served,
    label: Annotated[str | None, Query(max_length=4096)] = None,
    generation: Annotated[str | None, Query(max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=4096)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> schemas.Items:
    """A page of items, in a fixed order.

    `metadata.NAME=VALUE` admits only items with this value: a number, `true`, `false` or `null` as JSON has them, or text;
    text that looks like one of those goes in double quotes.
    """
    asked = [label] if label is not None else None, [generation] if generation else None, _metadata(request)
    return await service.threads.run(_page, service.holdings, asked, after or None, limit)


@router.get("/item", dependencies=reading)
async def item(service: Served, id: Id) -> schemas.Item:
    """One item."""
    return await service.threads.run(
        lambda holdings: described(holdings, [stored_item(holdings, id)])[0], service.holdings
    )


@router.get("/labels", dependencies=reading)
async def labels(service: Served) -> schemas.Labels:
    """Return how many items each label has."""
    return schemas.Labels(labels=await service.threads.run(service.holdings.gallery.count_by_label))


@router.get("/metadata", dependencies=reading)
async def metadata(service: Served) -> schemas.MetadataValues:
    """Return which values stand under each name of the metadata, those of most items first."""
    return await service.threads.run(service.names.metadata)


@router.get("/suggest", dependencies=reading)
async def suggest(
    service: Served,
    text: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=50)] = 6,
) -> schemas.Suggestions:
    """Labels and metadata that hold a text, and ids that begin with it."""
    return await service.threads.run(service.names.suggest, text, limit)


@router.get(
    "/thumbnail",
    dependencies=reading,
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}}, "description": "A small picture."},
        304: {"description": "Unchanged."},
    },
)
async def thumbnail(
    request: Request, service: Served, id: Id, size: Annotated[int, Query(ge=1, le=4096)] = 256
) -> Response:
    """A small picture of an item; 404 where its image is gone."""
    small, tag = await service.threads.run(lambda: _thumbnail(service, id, size))
    headers = {"ETag": tag, "Cache-Control": "private, max-age=60"}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(small, media_type="image/webp", headers=headers)


@router.post("/items", dependencies=[Depends(Admission("write", "pictures"))])
async def add(
    service: Served,
    image: Annotated[list[UploadFile], File(description="One picture or many.")],
    label: Annotated[str | None, Form(max_length=4096)] = None,
    id: Annotated[str | None, Form(max_length=4096, description="Id of one picture; by default its SHA-256.")] = None,
    metadata: Annotated[str | None, Form(description="A JSON object of scalar values.")] = None,
    relabel: Annotated[bool, Form(description="Let the label take the place of another one that is known.")] = False,
) -> schemas.AdditionResult:
    """Add pictures: they are kept, and their vectors by the generation that answers. One that cannot be read is skipped.

    What is known of an item stays where nothing is said of it, and its label even where another one is said, unless `relabel`.
    """
    if id and len(image) > 1:
        raise InputError("An id names one item: give it with one picture only.")
    if len(image) > service.limits.images:
        raise DeniedError(413, f"There are {len(image)} pictures: add up to {service.limits.images} at a time.")
    read = [(picture.filename or "picture", await read_upload(picture, service.limits)) for picture in image]
    return await service.editor.add_pictures(
        read, identifier=id or None, label=label or None, metadata=metadata_of(metadata) or {}, relabel=relabel
    )


@router.post("/items/vectors", dependencies=[Depends(Admission("write", "many"))])
async def add_vectors(body: schemas.NewVectors, service: Served) -> schemas.AdditionResult:
    """Add vectors made elsewhere by one generation; a `uri` is kept as a note, and never opened."""
    return await service.threads.run(service.editor.add_vectors, body)


@router.delete("/items", dependencies=[Depends(Admission("write", "many"))])
async def delete(body: schemas.DeletionRequest, service: Served) -> schemas.DeletionResult:
    """Delete items, and the pictures that were kept for them."""
    return schemas.DeletionResult(deleted=await service.threads.run(service.editor.delete, body.ids))


def _thumbnail(service: Service, id: str, size: int) -> tuple[bytes, str]:
    return service.pictures.thumbnail(stored_item(service.holdings, id), size, service.holdings.roots)


def _metadata(request: Request) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, text in request.query_params.items():
        if name.startswith("metadata."):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = text
            finite = not isinstance(value, float) or math.isfinite(value)
            found[name.removeprefix("metadata.")] = value if isinstance(value, Scalar) and finite else text
    return found


def _page(holdings: Holdings, asked: ItemFilter, after: str | None, limit: int) -> schemas.Items:
    gallery, view, where = holdings.gallery, holdings.state.view(), filter_of(holdings, *asked)
    pages = gallery.iterate(where, batch_size=limit + 1, with_embeddings=False, view=view, after=after)
    found = next(iter(pages), [])
    page = found[:limit]
    return schemas.Items(
        items=described(holdings, page),
        next=page[-1].id if len(found) > limit else None,
        total=gallery.count(where, view=view),
    )

"""Stored items: looking at them, adding and deleting them, small pictures of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile

from evergallery.errors import InputError, NotFoundError
from evergallery.gallery.items import Item
from evergallery.serving import schemas
from evergallery.serving.access import Served, require
from evergallery.serving.failures import Denied
from evergallery.serving.forms import metadata_of, read_upload
from evergallery.serving.service import Service

router = APIRouter(tags=["items"])
reading, writing = [Depends(require("read"))], [Depends(require("write"))]
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
    """A page of items, in a fixed order; `metadata.NAME=VALUE` admits only those with this value, as text."""
    prefix = "metadata."
    metadata = {
        name.removeprefix(prefix): value for name, value in request.query_params.items() if name.startswith(prefix)
    }
    return await service.run(_page, service, label, generation, metadata, after, limit)


@router.get("/item", dependencies=reading)
async def item(service: Served, id: Id) -> schemas.Item:
    """One item."""
    return service.described(await service.run(_stored, service, id))


@router.get("/labels", dependencies=reading)
async def labels(service: Served) -> schemas.Labels:
    """How many items each label has."""
    return schemas.Labels(labels=await service.run(service.workspace.gallery.count_by_label))


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
    small, tag = await service.run(lambda: service.pictures.thumbnail(_stored(service, id), size))
    headers = {"ETag": tag, "Cache-Control": "private, max-age=60"}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(small, media_type="image/webp", headers=headers)


@router.post("/items", dependencies=writing)
async def add(
    service: Served,
    image: Annotated[list[UploadFile], File(description="One picture or many.")],
    label: Annotated[str | None, Form(max_length=4096)] = None,
    id: Annotated[str | None, Form(max_length=4096, description="Of one picture; by default its SHA-256.")] = None,
    metadata: Annotated[str | None, Form(description="A JSON object of scalar values.")] = None,
) -> schemas.Added:
    """Add pictures: they are kept, and their vectors by the generation that answers. One that cannot be read is skipped."""
    if id and len(image) > 1:
        raise InputError("An id names one item: give it with one picture only.")
    if len(image) > service.limits.images:
        raise Denied(413, f"There are {len(image)} pictures: add up to {service.limits.images} at a time.")
    read = [(one.filename or "picture", await read_upload(one, service.limits)) for one in image]
    return await service.add_images(
        read, identifier=id or None, label=label or None, metadata=metadata_of(metadata) or {}
    )


@router.post("/items/vectors", dependencies=writing)
async def add_vectors(body: schemas.NewVectors, service: Served) -> schemas.Added:
    """Add vectors made elsewhere by one generation; a `uri` is kept as a note, and never opened."""
    return await service.run(service.add_vectors, body)


@router.delete("/items", dependencies=writing)
async def delete(body: schemas.Deletion, service: Served) -> schemas.Deleted:
    """Delete items, and the pictures that were kept for them."""
    return schemas.Deleted(deleted=await service.run(service.delete, body.ids))


def _stored(service: Service, identifier: str) -> Item:
    found = service.workspace.gallery.get(identifier)
    if found is None:
        raise NotFoundError(f"The gallery has no item {identifier!r}.")
    return found


def _page(
    service: Service, label: str | None, generation: str | None, metadata: dict[str, str], after: str | None, limit: int
) -> schemas.Items:
    gallery, view = service.workspace.gallery, service.workspace.state.view()
    where = service.where([label] if label is not None else None, [generation] if generation else None, dict(metadata))
    batch = next(
        iter(gallery.iterate(where, batch_size=limit + 1, with_embeddings=False, view=view, after=after or None)), []
    )
    page = batch[:limit]
    return schemas.Items(
        items=[service.described(one) for one in page],
        next=page[-1].id if len(batch) > limit else None,
        total=gallery.count(where, view=view),
    )

"""Stored items as clients see them: spaces by name, URIs that clients gave where there is no other."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from evergallery.data.metadata import Scalar
from evergallery.errors import NotFoundError
from evergallery.gallery.items import Filter, Item, View
from evergallery.holdings.comparing import space_names
from evergallery.holdings.holdings import Holdings
from evergallery.serving import schemas
from evergallery.serving.pictures import GIVEN_URI, picture_of
from evergallery.strings.redaction import redacted, redacted_values


def name_of(names: Mapping[str, str], fingerprint: str) -> str:
    """The name of a space, or the beginning of its fingerprint where nobody knows it.

    Args:
        names: of the spaces, as ``space_names`` gives them.
        fingerprint: of the space.
    """
    return names.get(fingerprint, fingerprint[:12])


def described(holdings: Holdings, items: Sequence[Item]) -> list[schemas.Item]:
    """Items; asks the disk once which spaces and roots there are, and for the picture of each."""
    if not items:
        return []
    names, roots = space_names(holdings), holdings.roots

    def told(item: Item) -> schemas.Item:
        metadata = dict(item.metadata)
        given = metadata.pop(GIVEN_URI, None)
        uri = item.uri if item.uri is not None else given if isinstance(given, str) else None
        return schemas.Item(
            id=item.id,
            label=item.label,
            uri=None if uri is None else redacted(uri),
            generation=name_of(names, item.generation),
            added=item.added,
            metadata=redacted_values(metadata),
            content_hash=item.content_hash,
            thumbnail=f"/api/v1/thumbnail?id={quote(item.id, safe='')}" if picture_of(item, roots) else None,
        )

    return [told(item) for item in items]


def filter_of(
    holdings: Holdings,
    labels: Sequence[str] | None,
    generations: Sequence[str] | None,
    metadata: Mapping[str, Scalar] | None,
) -> Filter:
    """The items that are asked for, spaces by name; what is empty asks for nothing.

    Raises:
        NotFoundError: no such space.
    """
    return Filter(
        labels=tuple(labels) if labels else None,
        generations=tuple(holdings.space(name).fingerprint for name in generations) if generations else None,
        metadata=metadata or None,
    )


def stored_item(holdings: Holdings, identifier: str, view: View | None = None) -> Item:
    """The item of an id.

    Raises:
        NotFoundError: there is none.
    """
    found = holdings.gallery.get(identifier, view=view)
    if found is None:
        raise NotFoundError(f"The gallery has no item {identifier!r}.")
    return found


def item_at(holdings: Holdings, uri: str, view: View) -> Item:
    """The item that has a URI, its own or one that a client gave; the first one where several have it.

    Raises:
        NotFoundError: there is none.
    """
    for where in (Filter(uris=(uri,)), Filter(metadata={GIVEN_URI: uri})):
        for batch in holdings.gallery.iterate(where, batch_size=1, view=view):
            return batch[0]
    raise NotFoundError(f"The gallery has no item whose URI is {uri!r}.")

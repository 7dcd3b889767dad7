"""The server that has a gallery: its URL, a client of it, and what it refuses in a sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from evergallery.errors import DamagedError, InputError, MissingExtraError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

PORT = 6333
SECONDS = 60
API_KEY = "QDRANT_API_KEY"


def client_of(url: str) -> "QdrantClient":
    """A client of the server that a URL names.

    Raises:
        MissingExtraError: the extra ``qdrant`` is not installed.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise MissingExtraError("A gallery in Qdrant", "qdrant") from None
    parts = urlsplit(url)
    return QdrantClient(
        host=parts.hostname,
        port=parts.port or PORT,
        https=parts.scheme == "qdrant+https",
        api_key=os.environ.get(API_KEY),
        timeout=SECONDS,
        check_compatibility=False,
    )


def collection_of(url: str) -> str:
    """The name of the collection that a URL names.

    Raises:
        InputError: it names none.
    """
    try:
        parts = urlsplit(url)
        name, _ = parts.path.strip("/"), parts.port
    except ValueError:
        name = ""
    if not name or "/" in name or not parts.hostname:
        raise InputError(f"{url} names no collection of Qdrant: write qdrant://host:{PORT}/COLLECTION.")
    return name


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Say in a sentence what the server has refused."""
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except ResponseHandlingException as error:
        raise NotFoundError(
            f"The gallery {url} does not answer ({error}): start its server, or see whether the URL is right."
        ) from error
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise RefusedError(
                f"Qdrant does not allow it in the gallery {url}: set {API_KEY} to a key that may do it."
            ) from error
        if error.status_code == 404:
            raise NotFoundError(
                f"A collection of the gallery {url} is gone ({error.reason_phrase}): restore it from a snapshot; where it is one "
                f"that was adopted, let go of it with  evergallery release"
            ) from error
        raise DamagedError(
            f"The gallery {url} cannot do that (status {error.status_code}: {error.reason_phrase}): see the server's "
            f"log, or restore the collection from a snapshot."
        ) from error

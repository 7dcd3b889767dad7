"""Forms with pictures."""

from typing import Any

from fastapi import UploadFile
from pydantic import TypeAdapter, ValidationError

from evergallery.errors import InputError, fault_of
from evergallery.serving.failures import DeniedError
from evergallery.serving.limits import Limits
from evergallery.serving.schemas import MOST_NAMES, Metadata

MOST_METADATA_PARTS = 20 * MOST_NAMES
"""Names, and colons in texts."""
_metadata: TypeAdapter[dict[str, Any]] = TypeAdapter(Metadata)


async def read_upload(upload: UploadFile, limits: Limits) -> bytes:
    """The bytes of an uploaded picture.

    Raises:
        DeniedError: there are too many.
    """
    if upload.size is not None and upload.size > limits.upload_bytes:
        raise DeniedError(413, f"The picture has {upload.size} bytes: a picture may have {limits.upload_bytes}.")
    return await upload.read()


def metadata_of(text: str | None) -> dict[str, Any] | None:
    """Metadata from a form's field, which holds a JSON object.

    Raises:
        InputError: it does not, or its values are no scalars.
    """
    if not text:
        return None
    if text.count(":") + text.count("[") + text.count("{") > MOST_METADATA_PARTS:
        raise InputError(f"metadata: give up to {MOST_NAMES} names with scalar values.")
    try:
        return _metadata.validate_json(text)
    except (ValueError, RecursionError) as error:
        first = fault_of(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"metadata: give a JSON object of names and scalar values ({first}).") from error

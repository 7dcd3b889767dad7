"""Cards: what is known of a stored thing beside its tensors, as JSON with a checksum of its own."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from evergallery.errors import DamagedError, fault_of
from evergallery.files.durable import read_json, write_json

Card = TypeVar("Card", bound=BaseModel)


def write_card(path: Path, card: BaseModel, leave_out: Collection[str] = ()) -> None:
    """Write a card, atomically, without some of its fields."""
    content = card.model_dump(mode="json", exclude=set(leave_out))
    write_json(path, {"sha256": _digest(content), "card": content})


def read_card(path: Path, model: type[Card], newest: int, noun: str) -> Card:
    """Read a card, and verify that it is as it was written.

    Args:
        path: of the file.
        model: of the card, with a field ``format``.
        newest: the highest format that is understood.
        noun: what it is called, ``a generation's card``.

    Raises:
        DamagedError: the card is missing, altered, or of a newer format.
        UnreadableError: it may not be read.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("card"), dict):
        raise DamagedError(f"{path} is not {noun}: restore it from a backup.")
    card = content["card"]
    if card.get("format", 0) > newest:
        raise DamagedError(
            f"{path} has format {card['format']} and this version of Evergallery reads up to {newest}: "
            f"install a newer Evergallery."
        )
    if content.get("sha256") != _digest(card):
        raise DamagedError(f"{path} was altered after it was written: restore it from a backup.")
    try:
        return model.model_validate(card)
    except ValidationError as error:
        raise DamagedError(f"{path} is not {noun} ({fault_of(error)}): restore it from a backup.") from error


def _digest(card: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()

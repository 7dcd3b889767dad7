"""Which generation a space is, where it is known already; else the name and the place of the next."""

from collections.abc import Sequence
from pathlib import Path

from evergallery.generations.generation import Generation, directory_name


def known_generation(existing: Sequence[Generation], fingerprint: str) -> Generation | None:
    """The generation of a fingerprint, if there is one."""
    return next((generation for generation in existing if generation.fingerprint == fingerprint), None)


def next_place(existing: Sequence[Generation], directory: Path) -> tuple[str, Path]:
    """Name of the next generation, and where it is to lie."""
    number = max((generation.number for generation in existing), default=0) + 1
    return f"v{number}", directory / directory_name(number)

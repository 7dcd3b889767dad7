"""The generation that a space is, where it is known already; else the name and the place of the next."""

from pathlib import Path

from evergallery.generations.generation import Generation, directory_name
from evergallery.holdings.holdings import Holdings


def known_generation(holdings: Holdings, fingerprint: str) -> Generation | None:
    """The generation of a fingerprint, if there is one."""
    return next((generation for generation in holdings.generations() if generation.fingerprint == fingerprint), None)


def next_generation(holdings: Holdings) -> tuple[str, Path]:
    """Name of the next generation, and the directory that it is to have."""
    number = max((generation.number for generation in holdings.generations()), default=0) + 1
    return f"v{number}", holdings.directory / "generations" / directory_name(number)

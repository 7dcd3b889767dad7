"""Verify what a workspace holds: every checksum and count."""

from pathlib import Path

from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.errors import DamagedError
from evergallery.files import TEMPORARY_PREFIX
from evergallery.gallery.store import GalleryStore
from evergallery.generation import Generation, generation_directories


def examine(directory: Path, promoted: str | None, gallery: GalleryStore) -> list[str]:
    """What is wrong with a workspace, a sentence each; empty where all is well."""
    found: list[str] = []
    names, fingerprints = set(), set()
    for path in generation_directories(directory / "generations"):
        try:
            generation = Generation.load(path)
            names.add(generation.name)
            fingerprints.add(generation.fingerprint)
            found += generation.problems()
        except DamagedError as error:
            found.append(str(error))
    adapters = directory / "adapters"
    for path in adapter_directories(adapters) if adapters.is_dir() else []:
        try:
            stored = StoredAdapter.load(path)
            fingerprints.add(stored.fingerprint)
            found += stored.problems()
        except DamagedError as error:
            found.append(str(error))
    if promoted is not None and promoted not in names:
        found.append(f"The promoted generation {promoted} is missing: promote another.")
    try:
        found += gallery.verify()
        for fingerprint, count in gallery.count_by_generation().items():
            if fingerprint not in fingerprints:
                found.append(f"The gallery holds {count} vectors of an unknown generation {fingerprint[:12]}.")
    except DamagedError as error:
        found.append(str(error))
    for folder in (directory, directory / "generations", adapters):
        for path in folder.glob(TEMPORARY_PREFIX + "*"):
            found.append(f"{path} was left by a process that was killed: it can be deleted.")
    return found

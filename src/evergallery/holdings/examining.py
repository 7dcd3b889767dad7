"""Verify what a workspace holds: every checksum and count."""

from pathlib import Path

from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.errors import DamagedError
from evergallery.generations.generation import Generation, generation_directories
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.image_files import look_for_files
from evergallery.holdings.leftovers import left, pictures_of_nobody, sweep


def doctor(holdings: Holdings) -> list[str]:
    """Verify every checksum and count; returns what is wrong, a sentence each."""
    directory, promoted, gallery = holdings.directory, holdings.state.promoted, holdings.gallery
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
        items = gallery.iterate(with_embeddings=False)
        found += look_for_files(items, holdings.roots, thorough=True).problems()
    except DamagedError as error:
        found.append(str(error))
    for path in left(directory):
        found.append(f"{path} was left by a process that was killed: delete it with  evergallery doctor --mend")
    try:
        for path in pictures_of_nobody(directory, gallery):
            found.append(f"{path} is the picture of no item: delete it with  evergallery doctor --mend")
    except DamagedError:
        pass  # It is among the problems already.
    return found


def mend(holdings: Holdings) -> list[Path]:
    """Delete what killed processes have left, and added pictures that no item has any more; returns what was deleted.

    Raises:
        BusyError: another process is changing the workspace.
        DamagedError: the gallery cannot be read: then no picture is deleted.
    """
    gone = sweep(holdings.directory, holdings.gallery)
    if gone:
        holdings.journal.record("mend", deleted=len(gone))
    return gone

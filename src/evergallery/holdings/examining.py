"""Verify what a workspace holds: every checksum and count."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.errors import DamagedError
from evergallery.files import TEMPORARY_PREFIX, lock
from evergallery.gallery.store import GalleryStore
from evergallery.generations.generation import Generation, generation_directories
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.image_files import look_for_files


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
    for path in _left(directory):
        found.append(f"{path} was left by a process that was killed: delete it with  evergallery doctor --mend")
    try:
        for path in _pictures_of_nobody(directory, gallery):
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
    directory, gallery = holdings.directory, holdings.gallery
    gone: list[Path] = []
    with ExitStack() as held:
        for folder in (directory, directory / "generations", directory / "images"):
            if folder.is_dir():
                held.enter_context(lock(folder / ".lock", "mending"))
        for path in [*_left(directory), *_pictures_of_nobody(directory, gallery)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            gone.append(path)
    if gone:
        holdings.journal.record("mend", deleted=len(gone))
    return gone


def _left(directory: Path) -> list[Path]:
    """What killed processes have left."""
    folders = (directory, *(directory / name for name in ("generations", "adapters", "checks", "images", "backups")))
    return [path for folder in folders for path in sorted(folder.glob(TEMPORARY_PREFIX + "*"))]


def _pictures_of_nobody(directory: Path, gallery: GalleryStore) -> list[Path]:
    """Pictures that clients of the server have added and no version of an item has any more."""
    kept = {path.name: path for path in (directory / "images").glob("[!.]*") if path.is_file()}
    for versions in gallery.versions() if kept else ():
        for version in versions:
            if version.uri is not None:
                kept.pop(Path(version.uri).name, None)
    return sorted(kept.values())

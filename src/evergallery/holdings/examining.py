"""Verify what a workspace holds: every checksum and count."""

from collections.abc import Mapping
from pathlib import Path

from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.errors import BusyError, DamagedError, EvergalleryError, StoredFileError, UnreadableError
from evergallery.files import read_object
from evergallery.gallery.adopted import AdoptedCollection
from evergallery.generations.generation import Generation, generation_directories
from evergallery.holdings.holdings import HELD, Holdings
from evergallery.holdings.image_files import look_for_files
from evergallery.holdings.journal import is_entry, lay_aside
from evergallery.holdings.leftovers import left, pictures_of_nobody, sweep
from evergallery.holdings.marks import is_mark
from evergallery.holdings.vector_faults import vector_faults

LINES_NAMED = 5


def examine(holdings: Holdings) -> list[str]:
    """List what is wrong with models, vectors and files, a sentence each; ``doctor`` looks at the checks and the gate, too.

    Raises:
        BusyError: another process has the gallery.
    """
    found, dimensions = _problems_of_models(holdings)
    try:
        found += _problems_of_gallery(holdings, dimensions)
    except BusyError:
        # Nothing is wrong with it, and nobody knows.
        raise
    except EvergalleryError as error:
        found.append(str(error))
    for path in left(holdings.directory):
        found.append(f"{path} was left by a process that was killed: delete it with  evergallery doctor --mend")
    return found + _problems_of_records(holdings)


def _problems_of_records(holdings: Holdings) -> list[str]:
    """Return what is wrong with files beside the models and the vectors."""
    found = []
    for path, damaged in (
        (holdings.journal.path, holdings.journal.damaged),
        (holdings.marks.path, holdings.marks.damaged),
    ):
        try:
            if lines := damaged():
                named = ", ".join(map(str, lines[:LINES_NAMED])) + (", …" if len(lines) > LINES_NAMED else "")
                found.append(
                    f"{path} has damaged lines ({len(lines)}: {named}), which are passed over: restore it from a backup, or lay "
                    f"them aside with  evergallery doctor --mend"
                )
        except StoredFileError as error:
            found.append(str(error))
    held, tokens = holdings.directory / HELD, holdings.directory / "tokens.json"
    found += [
        f"{path} is no file: move it out of the workspace, and restore the file from a backup if there was one."
        for path in (holdings.journal.path, holdings.marks.path, held, tokens, holdings.directory / "gate.toml")
        if path.exists() and not path.is_file()
    ]
    try:
        if held.is_file() and read_object(held, items=int)["items"] < 0:
            raise DamagedError(f"{held} does not say how many items the gallery had.")
    except UnreadableError as error:
        found.append(str(error))
    except DamagedError:
        found.append(
            f"{held} does not say how many items the gallery had, by which its loss is noticed: restore it from a backup, or "
            f"delete it, and it is written when the gallery is closed next."
        )
    try:
        if tokens.is_file() and not all(
            isinstance(token, dict) for token in read_object(tokens, tokens=list)["tokens"]
        ):
            found.append(f"{tokens} does not hold tokens: restore it from a backup, or delete it and make new ones.")
    except StoredFileError as error:
        found.append(str(error))
    return found


def _problems_of_models(holdings: Holdings) -> tuple[list[str], dict[str, int | None]]:
    """Return what is wrong with generations and adapters; and their fingerprints, those of generations with their dimension."""
    found: list[str] = []
    dimensions: dict[str, int | None] = {}
    named: dict[str, Path] = {}
    adapters = holdings.directory / "adapters"
    paths = [
        *generation_directories(holdings.directory / "generations"),
        *(adapter_directories(adapters) if adapters.is_dir() else []),
    ]
    for path in paths:
        try:
            made = StoredAdapter.load(path) if path.parent == adapters else Generation.load(path)
            if named.setdefault(made.card.name, path) != path:
                found.append(
                    f"{path} and {named[made.card.name]} both call themselves {made.card.name}: move the copy "
                    f"out of the workspace."
                )
            dimensions[made.fingerprint] = made.card.dimension if isinstance(made, Generation) else None
            found += made.problems()
        except StoredFileError as error:
            found.append(str(error))
    promoted = holdings.state.promoted
    if promoted is not None and promoted not in named:
        found.append(f"The promoted generation {promoted} is missing: promote another.")
    return found, dimensions


def _problems_of_gallery(holdings: Holdings, dimensions: Mapping[str, int | None]) -> list[str]:
    """Return what is wrong with stored vectors, and with the images of their items."""
    gallery = holdings.gallery
    found = gallery.verify()
    widths = gallery.dimensions()
    for fingerprint, count in gallery.count_by_generation().items():
        if fingerprint not in dimensions:
            found.append(f"The gallery holds {count} vectors of an unknown generation {fingerprint[:12]}.")
        elif dimensions[fingerprint] not in (None, widths.get(fingerprint)):
            found.append(
                f"The gallery holds {count} vectors of {widths.get(fingerprint)} dimensions of the generation "
                f"{fingerprint[:12]}, which makes {dimensions[fingerprint]}: restore it from a backup, or index the images again."
            )
    if isinstance(gallery, AdoptedCollection):
        found += gallery.changes().problems(gallery.collection)
    found += vector_faults(holdings)
    items = gallery.iterate(with_embeddings=False)
    found += look_for_files(items, holdings.roots, thorough=True).problems(gallery)
    for path in pictures_of_nobody(holdings.directory, gallery):
        found.append(f"{path} is the picture of no item: delete it with  evergallery doctor --mend")
    return found


def mend(holdings: Holdings) -> list[Path]:
    """Delete what killed processes have left, and added pictures that no item has any more; lay damaged lines of records aside.

    Returns:
        What was deleted, and files of records whose damaged lines are in ``NAME.damaged`` beside them now.

    Raises:
        BusyError: another process is changing the workspace.
        DamagedError: the gallery cannot be read: then no picture is deleted.
    """
    gone = sweep(holdings.directory, holdings.gallery)
    records = ((holdings.journal.path, is_entry), (holdings.marks.path, is_mark))
    mended = [path for path, is_whole in records if lay_aside(path, is_whole) is not None]
    if gone or mended:
        holdings.journal.record("mend", deleted=len(gone), mended=[path.name for path in mended])
    return [*gone, *mended]

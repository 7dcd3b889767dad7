"""A gallery over a file of vectors that somebody else keeps: an index of FAISS, a table of LanceDB, Parquet or arrays.

The file is only read. To be searched, its vectors are copied into a gallery of the embedded engine; beside that lies a note of
which file it is. Each item keeps as the hash of its content what tells its row's picture: the hash that the file names, or a
digest of vector and address. So rows that have come, gone or changed are known, whatever generation has looked at them since.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from evergallery.data.metadata import metadata_terms
from evergallery.data.vectors import VectorBatch, VectorTable, open_vectors
from evergallery.errors import NotFoundError, RefusedError
from evergallery.files import read_object, write_json
from evergallery.gallery.adopted import EXAMPLES, Adoptable, AdoptedCollection, Changes, Rows
from evergallery.gallery.edge.directory import holds_no_gallery
from evergallery.gallery.edge.store import EdgeStore
from evergallery.gallery.items import EVERYTHING, Item, Precision, View, check_items
from evergallery.gallery.store import BATCH
from evergallery.watching import SILENT, Watcher

PLACE = "adopted"
"""The place of the copy, in the workspace."""


@dataclass(frozen=True)
class VectorFile:
    """A file of vectors, and who has adopted it.

    Attributes:
        file: its whole path.
        ids: that of the file of its ids, where it has one.
        generation: fingerprint of the one that made the vectors.
        owner: the workspace.
    """

    file: str
    ids: str | None
    generation: str = ""
    owner: str = ""

    def __str__(self) -> str:
        return f"the file {self.file}"

    def table(self) -> VectorTable:
        """The rows of the file, checked; those that cannot be used are left out.

        Raises:
            InputError: it is gone, or holds nothing that can be used.
        """
        return open_vectors(self.file, ids=self.ids, skip_bad=True)


class AdoptedEdgeStore(EdgeStore, AdoptedCollection):
    """The gallery that ``adopt`` makes of a file; see ``GalleryStore`` and ``AdoptedCollection`` for what is promised.

    A row that was deleted from the file, or changed in it, is noticed when the file is taken up again.
    """

    def __init__(self, directory: str | Path, view: Callable[[], View] = lambda: EVERYTHING) -> None:
        super().__init__(directory, view, create=False)
        self._note = note_of(Path(directory))
        known = read_object(self._note, file=str, generation=str, owner=str)
        self._source = VectorFile(known["file"], known.get("ids"), known["generation"], known["owner"])
        self._is_taking_up = False
        self._waiting: list[Item] = []

    @property
    def collection(self) -> str:
        """Return what is adopted, in words."""
        return str(self._source)

    @property
    def generation(self) -> str:
        """Fingerprint of the generation whose vectors the file has."""
        return self._source.generation

    @property
    def described(self) -> str:
        """Return what is read, exactly."""
        return _described(self._source)

    @property
    def copied(self) -> int:
        """Return how many bytes of the file's vectors the gallery holds a copy of."""
        count = self.count_by_generation(view=EVERYTHING).get(self.generation, 0)
        return 4 * count * self.dimensions().get(self.generation, 0)

    def refuse_items(self) -> None:
        """Refuse to add, replace or delete items, which are the file's."""
        if not self._is_taking_up:
            raise RefusedError(
                f"The items of this gallery are the rows of {self._source}, which is only read: change them there, then run  "
                f"evergallery adopt  to take up what has changed."
            )

    @contextmanager
    def _taking_up(self) -> Iterator[None]:
        self._is_taking_up = True
        try:
            yield
        finally:
            self._is_taking_up = False

    # What has changed

    def changes(self) -> Changes:
        """Return what has become of the rows since they were last taken up; writes nothing."""
        return self._take_up(SILENT, writes=False, waits=False)

    def reconcile(self, watcher: Watcher, *, behind: str | None = None, hidden: bool = False) -> Changes:
        """Take up what has changed; see ``AdoptedCollection``. Rows that must wait are not stored until they need not."""
        self._waiting = []
        with self._taking_up():
            return self._take_up(watcher, writes=True, waits=hidden or behind is not None, behind=behind)

    def _take_up(self, watcher: Watcher, *, writes: bool, waits: bool, behind: str | None = None) -> Changes:
        table, there = self._source.table(), set[str]()
        found: dict[str, list[str]] = {"added": [], "changed": [], "gone": []}
        dropped = 0
        for batch in table.batches(BATCH):
            rows = list(_items(batch, self.generation))
            there.update(batch.ids)
            held = self._held(batch.ids)
            new, described = list[Item](), list[Item]()
            for row in rows:
                versions = held.get(row.id)
                if not versions:
                    found["added"].append(row.id)
                    new.append(row)
                elif _is_redrawn(row, versions):
                    found["changed"].append(row.id)
                    dropped += self._count_newer({row.id: versions})
                    new.append(row)
                elif not _says_the_same(row, versions[0]):
                    found["changed"].append(row.id)
                    described += [
                        replace(version, label=row.label, uri=row.uri, metadata=row.metadata) for version in versions
                    ]
            if writes and (new or described):
                self.delete([row.id for row in new if row.id in held])
                self.put_versions(described if waits else [*described, *new])
                self._waiting += [replace(row, superseded=behind) for row in new] if waits else []
            if writes:
                watcher.counted("taking up rows", len(there), table.rows)
        for names in self.identifiers(view=EVERYTHING):
            gone = [name for name in names if name not in there]
            found["gone"] += gone
            dropped += self._count_newer(self._held(gone, with_embeddings=False))
        if writes:
            self.delete(found["gone"])
        bad = Counter(row.reason for row in table.skipped)
        unusable = {
            reason: Rows(count, tuple(row.uri for row in table.skipped if row.reason == reason)[:EXAMPLES])
            for reason, count in sorted(bad.items())
        }
        some = {name: Rows(len(ids), tuple(sorted(ids)[:EXAMPLES])) for name, ids in found.items()}
        return Changes(table.rows, dropped=dropped, unusable=unusable, **some)

    def _count_newer(self, held: Mapping[str, Sequence[Item]]) -> int:
        return sum(version.generation != self.generation for versions in held.values() for version in versions)

    # What waits

    def waiting(self) -> Iterator[list[Item]]:
        """Items that were not stored when the file was last taken up, with its vectors."""
        for start in range(0, len(self._waiting), BATCH):
            yield self._waiting[start : start + BATCH]

    def end_waiting(self, items: Sequence[Item]) -> None:
        """Store newer vectors of items that have waited."""
        check_items(items)
        behind = {row.id: row for row in self._waiting}
        with self._taking_up():
            for item in items:
                row = behind[item.id]
                newer = replace(item, refresh=row.superseded, superseded=None)
                self.put_versions([newer] if row.superseded is None else [row, newer])

    def newer(self) -> dict[str, int]:
        """Return how many vectors of newer generations there are, by generation."""
        counts = self.count_by_generation(view=EVERYTHING)
        return {name: count for name, count in counts.items() if name != self.generation}

    def release(self) -> None:
        """Delete the copy, and close; the file stays as it is."""
        directory = self.directory
        self.close()
        # The note goes last: as long as it is there, the same call goes on.
        shutil.rmtree(directory)
        self._note.unlink()


class AdoptableFile(Adoptable):
    """A file of vectors, looked at.

    Args:
        file: ``.npz``, ``.npy``, Parquet, ``.faiss`` or ``.index``, or a directory ``.lance``.
        directory: of the workspace that would adopt it.
        ids: a text file with an id on each line, for arrays and FAISS.

    Raises:
        InputError: it is missing, damaged or of another form, or holds no vector that can be used.
        MissingExtraError: the extra of its kind is not installed.
    """

    def __init__(self, file: str | Path, directory: Path, ids: str | Path | None = None) -> None:
        whole = Path(file).expanduser().resolve()
        self._source = VectorFile(str(whole), None if ids is None else str(Path(ids).expanduser().resolve()))
        self._directory = directory / PLACE
        self.place, self.collection = PLACE, str(self._source)
        self.dimension = self._source.table().dimension
        self.space = hashlib.sha256(str(whole).encode()).hexdigest()

    @property
    def described(self) -> str:
        """Return what would be read, exactly."""
        return _described(self._source)

    def make(self, generation: str, owner: str) -> None:
        """Make the directory of the copy, where it is missing; see ``Adoptable``."""
        wanted, note = asdict(replace(self._source, generation=generation, owner=owner)), note_of(self._directory)
        # A note without its directory is what a release was killed before deleting.
        if not (note.is_file() and self._directory.is_dir()):
            write_json(note, wanted)
        found = read_object(note, file=str, generation=str)
        if any(found.get(name) != wanted[name] for name in ("file", "ids", "generation")):
            raise RefusedError(
                f"The adoption of {found['file']} was begun and not finished: finish it with  evergallery adopt "
                f"{quote(found['file'])}"
            )
        self._directory.mkdir(exist_ok=True)


def note_of(directory: Path) -> Path:
    """The note that says which file a gallery is over, beside its directory."""
    return directory.with_name(f"{directory.name}.json")


def open_edge(place: str, view: Callable[[], View], /, *, precision: Precision | None, create: bool) -> EdgeStore:
    """A gallery of its own, or one over a file that was adopted; see ``EdgeStore``.

    Raises:
        NotFoundError: it is not to be made, and the directory is one of something else.
    """
    directory = Path(place)
    if directory.name == PLACE and note_of(directory).is_file():
        return AdoptedEdgeStore(directory, view)
    if not create and directory.is_dir() and holds_no_gallery(directory):
        raise NotFoundError(
            f"{directory} holds no gallery: name the gallery's own directory, such as {directory / 'gallery'}, or its URL."
        )
    return EdgeStore(directory, view, precision=precision, create=create)


def _described(source: VectorFile) -> str:
    return str((source.file, source.ids))


def _items(batch: VectorBatch, fingerprint: str) -> Iterator[Item]:
    """The rows of a table as items, each with what tells its picture."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    columns = (batch.ids, batch.embeddings, batch.labels, batch.uris, batch.content_hashes, batch.metadata)
    for identifier, embedding, label, uri, content, metadata in zip(*columns, strict=True):
        picture = content or _picture(embedding, uri)
        yield Item(identifier, embedding, fingerprint, label, uri, picture, time, metadata)


def _picture(embedding: NDArray[np.float32], uri: str | None) -> str:
    """A digest that nobody takes for that of a file, which has 64 digits."""
    return f"row-{hashlib.sha256(embedding.astype('<f4').tobytes() + (uri or '').encode()).hexdigest()[:40]}"


def _is_redrawn(row: Item, versions: Sequence[Item]) -> bool:
    """Return whether a row has another picture, or another vector of it, than it had."""
    return any(
        version.content_hash != row.content_hash
        or (version.generation == row.generation and not np.array_equal(version.embedding, row.embedding))
        for version in versions
    )


def _says_the_same(row: Item, version: Item) -> bool:
    return (row.label, row.uri) == (version.label, version.uri) and (
        metadata_terms(row.metadata) == metadata_terms(version.metadata)
    )

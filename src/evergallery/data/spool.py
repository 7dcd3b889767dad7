"""Lists that would fill the memory where there are a million images: kept in temporary files that have no name."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from evergallery.data.images import UnreadableImage
from evergallery.data.listing import Entry, Listing, path_key, twice
from evergallery.errors import InputError


class Spool:
    """The entries of a listing in a temporary file, so that a million of them cost no memory.

    So all that a listing can have wrong is known, and how many entries it has, before any image is opened, and folders are gone
    through in one order however the file system pleases. The file has no name and goes with the process.

    Args:
        listing: gone through at once.
        split: only the entries of this split.

    Raises:
        InputError: of the listing; a part of a picture is meant; an id occurs twice; there is no such split; or the disk of
            temporary files is full.
    """

    def __init__(self, listing: Listing, split: str | None = None) -> None:
        self._database = _temporary()
        self._by_path = listing.by_path
        last: list[Entry] = []
        splits: set[str] = set()
        refused: list[UnreadableImage] = []

        def rows() -> Iterator[tuple[Any, ...]]:
            for entry in listing.entries:
                if isinstance(entry, UnreadableImage):
                    refused.append(entry)
                    continue
                last[:] = [entry]
                if entry.part is not None:
                    raise InputError(
                        f"Of {entry.uri} a part is meant, and a gallery holds whole pictures: cut the parts out into files of "
                        f"their own, and index these."
                    )
                if entry.split is not None:
                    splits.add(entry.split)
                if split is None or entry.split == split:
                    place = _packed(path_key(entry.uri)) if self._by_path else None
                    metadata = json.dumps(entry.metadata) if entry.metadata else None
                    yield place, _packed(entry.uri), entry.label, entry.item_id, metadata

        try:
            self._database.execute(
                "create table entry (place blob, uri blob not null, label text, item_id text unique, metadata text)"
            )
            self._database.execute("begin")
            self._database.executemany("insert into entry values (?, ?, ?, ?, ?)", rows())
        except sqlite3.IntegrityError:
            self.close()
            raise twice(last[0]) from None
        except UnicodeEncodeError:
            self.close()
            raise InputError(f"The folder of {last[0].uri!a} has a name that is not Unicode: rename it.") from None
        except sqlite3.OperationalError as error:
            self.close()
            raise InputError(
                f"The images cannot be listed in a temporary file ({error}): make room, or set TMPDIR."
            ) from error
        except BaseException:
            self.close()
            raise
        self._database.execute("create table refused (uri text not null, reason text not null)")
        self._database.executemany("insert into refused values (?, ?)", ((file.uri, file.reason) for file in refused))
        self._count: int = self._database.execute("select count(*) from entry").fetchone()[0]
        if split is not None and not self._count:
            self.close()
            raise InputError(f"The images have no split {split!r}: they have {', '.join(sorted(splits)) or 'none'}.")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        order = "place" if self._by_path else "rowid"
        for uri, label, item_id, metadata in self._database.execute(
            f"select uri, label, item_id, metadata from entry order by {order}"
        ):
            yield Entry(_unpacked(uri), label, item_id=item_id, metadata=json.loads(metadata) if metadata else {})

    def refused(self) -> Iterator[UnreadableImage]:
        """The files that the listing names as pictures that cannot be read."""
        return (UnreadableImage(*row) for row in self._database.execute("select uri, reason from refused"))

    def labels(self) -> list[str]:
        """The names of all classes, each once."""
        return [name for (name,) in self._database.execute("select distinct label from entry where label is not null")]

    def close(self) -> None:
        """Delete the temporary file."""
        self._database.close()


class IdRegister:
    """The ids that have come by, and what is wrong with what came by under them. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = _temporary()
        self._database.execute("create table identifier (item text primary key, reason text) without rowid")
        self._database.execute("begin")

    def first_times(self, identifiers: Sequence[str]) -> list[bool]:
        """Return whether each of these ids, in turn, comes for the first time."""
        add = "insert or ignore into identifier values (?, null)"
        with self._lock:
            return [self._database.execute(add, (identifier,)).rowcount == 1 for identifier in identifiers]

    def blame(self, identifier: str, reason: str) -> None:
        """Note why nothing can be made of what has come by under an id."""
        with self._lock:
            self._database.execute("update identifier set reason = ? where item = ?", (reason, identifier))

    def blamed(self, identifier: str) -> str | None:
        """Return why nothing can be made of it, where something is wrong with it."""
        with self._lock:
            row = self._database.execute("select reason from identifier where item = ?", (identifier,)).fetchone()
        reason: str | None = row[0]
        return reason

    def close(self) -> None:
        """Forget the ids."""
        self._database.close()


class Addresses:
    """The items that were found at each address, and those that are not there any more. One thread at a time uses it."""

    def __init__(self) -> None:
        self._database = _temporary()
        self._database.execute("create table found (uri blob primary key, content text, is_new integer) without rowid")
        self._database.execute("create table stale (id text primary key) without rowid")
        self._database.execute("begin")

    def add(self, uri: str, content: str | None, is_new: bool) -> None:
        """Note the hash of what lies at an address, ``None`` where it could not be read, and whether the gallery lacked it."""
        self._database.execute("insert or replace into found values (?, ?, ?)", (_packed(uri), content, is_new))

    def get(self, uri: str) -> tuple[bool, str | None]:
        """Return whether something was found at an address, and its hash."""
        row = self._database.execute("select content from found where uri = ?", (_packed(uri),)).fetchone()
        return row is not None, row[0] if row else None

    def new(self, size: int) -> Iterator[list[str]]:
        """The addresses of what the gallery lacked, so many at a time."""
        cursor = self._database.execute("select uri from found where is_new")
        while rows := cursor.fetchmany(size):
            yield [_unpacked(uri) for (uri,) in rows]

    def outdated(self, identifier: str) -> None:
        """Note an item whose picture is no longer at its address."""
        self._database.execute("insert or ignore into stale values (?)", (identifier,))

    def all_outdated(self, size: int) -> Iterator[list[str]]:
        """The ids of the items that ``outdated`` has noted, so many at a time."""
        cursor = self._database.execute("select id from stale")
        while rows := cursor.fetchmany(size):
            yield [identifier for (identifier,) in rows]

    def close(self) -> None:
        """Forget the addresses and the items."""
        self._database.close()


def _temporary() -> sqlite3.Connection:
    # One thread at a time uses it, though not always the one that made it.
    database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    database.execute("pragma journal_mode = off")
    database.execute("pragma synchronous = off")
    return database


def _packed(address: str) -> bytes:
    """An address as bytes: a file's name need not be text."""
    return address.encode(errors="surrogateescape")


def _unpacked(address: bytes) -> str:
    return address.decode(errors="surrogateescape")

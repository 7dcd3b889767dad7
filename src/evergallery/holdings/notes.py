"""Notes on stored items beside their vectors: how often each was found, and why one could not be refreshed."""

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from evergallery.strings.redaction import redacted_text

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

KEPT_BACK = 1000
PATIENCE = 5.0
"""Seconds for which one process waits for another that writes."""
TABLES = (
    "create table if not exists found (item text primary key, times integer not null)",
    "create table if not exists problem (item text primary key, kind text not null, reason text not null)",
)


@dataclass(frozen=True)
class Problem:
    """The reason for which an item keeps its old vector."""

    item: str
    kind: str
    """``image missing`` or ``failed``."""
    reason: str


class Notes:
    """An SQLite file; a kill may cost the last searches' counts, never the file. Threads may share it.

    Args:
        path: of the file; made with the first note.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: Counter[str] = Counter()
        self._one_counter = threading.Lock()

    def found(self, identifiers: Iterable[str]) -> None:
        """Count each of these items once more; written when enough have come together, or by ``flush``."""
        with self._one_counter:
            self._waiting.update(identifiers)
            enough = self._waiting.total() >= KEPT_BACK
        if enough:
            self.flush()

    def flush(self) -> None:
        """Write what was counted; kept for the next time where another process holds the file or the disk is full."""
        with self._one_counter:
            if not self._waiting:
                return
            try:
                self._write(
                    "insert into found values (?, ?) on conflict (item) do update set times = times + excluded.times",
                    list(self._waiting.items()),
                )
            except sqlite3.OperationalError:
                return
            self._waiting.clear()

    def times_found(self) -> dict[str, int]:
        """Return how often each item was found; items never found are left out."""
        self.flush()
        return {item: int(times) for item, times in self._read("select item, times from found")}

    def record(self, problems: Sequence[Problem]) -> None:
        """Note problems, in place of what was noted about these items."""
        self._write(
            "insert or replace into problem values (?, ?, ?)",
            [(problem.item, problem.kind, redacted_text(problem.reason)) for problem in problems],
        )

    def solved(self, identifiers: Iterable[str]) -> None:
        """Forget the problems of these items."""
        if self.path.is_file():
            self._write("delete from problem where item = ?", [(identifier,) for identifier in identifiers])

    def problems(self) -> list[Problem]:
        """Every problem, in order of the items' ids."""
        return [Problem(*row) for row in self._read("select item, kind, reason from problem order by item")]

    def problems_by_kind(self) -> Mapping[str, int]:
        """Return how many problems of each kind there are."""
        return Counter(problem.kind for problem in self.problems())

    def _write(self, statement: str, rows: Sequence[tuple[str | int, ...]]) -> None:
        if rows:
            self._despite_damage(lambda: self._store(statement, rows))

    def _despite_damage(self, work: Callable[[], Answer]) -> Answer:
        """Return what some work on the file gives; a damaged one is laid aside first, since nothing that matters is in it."""
        try:
            return work()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(aside)
            log.warning("%s was damaged (%s): it is %s now, and begun anew", self.path, error, aside.name)
            return work()

    def _store(self, statement: str, rows: Sequence[tuple[str | int, ...]]) -> None:
        if rows:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database, database:
                for table in TABLES:
                    database.execute(table)
                database.executemany(statement, rows)

    def _read(self, question: str) -> list[tuple[str, ...]]:
        return self._despite_damage(lambda: self._rows(question))

    def _rows(self, question: str) -> list[tuple[str, ...]]:
        if not self.path.is_file():
            return []
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database:
            return database.execute(question).fetchall()

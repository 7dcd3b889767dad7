"""What is written down beside the vectors: operations, counts and problems; by several processes, and through kills."""

import json
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evergallery.holdings.journal import Journal
from evergallery.holdings.notes import Notes, Problem


def write_entries(path: Path, name: str) -> None:
    for number in range(50):
        Journal(path).record("test", writer=name, number=number, text="x" * 500)


class TestJournal:
    def test_says_who_when_what(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        journal = Journal(tmp_path / "log.jsonl")
        assert journal.entries() == []
        monkeypatch.setenv("EVERGALLERY_USER", "mira")
        journal.record("promote", generation="v2", why="because")
        entry = journal.entries()[0]
        assert (entry["who"], entry["operation"], entry["generation"], entry["why"]) == (
            "mira",
            "promote",
            "v2",
            "because",
        )
        assert entry["time"].endswith("+00:00")

    def test_half_a_line_costs_only_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        Journal(path).record("one")
        with path.open("a") as file:
            file.write('{"operation": "tw')
        Journal(path).record("three")
        assert [entry["operation"] for entry in Journal(path).entries()] == ["one", "three"]

    @pytest.mark.parametrize("block", [1, 100, 1000, 2**16])
    def test_the_last_entries_are_read_from_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
    ) -> None:
        monkeypatch.setattr("evergallery.holdings.journal.BLOCK", block)
        journal = Journal(tmp_path / "log.jsonl")
        assert journal.last(3) == []
        for number in range(20):
            journal.record("test", number=number, text="é" * (number * 7 % 50))
        for count in (1, 3, 20, 50):
            assert journal.last(count) == journal.entries()[-count:]

    def test_processes_do_not_write_into_each_other(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=write_entries, args=(path, name)) for name in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for name in "ab":
            assert [line["number"] for line in lines if line["writer"] == name] == list(range(50))


class TestNotes:
    def test_threads_lose_no_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("evergallery.holdings.notes.KEPT_BACK", 10)
        notes = Notes(tmp_path / "notes.sqlite")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: notes.found([f"item {number % 3}"]), range(300)))
        assert notes.times_found() == {f"item {number}": 100 for number in range(3)}

    def test_counts_add_up_over_openings(self, tmp_path: Path) -> None:
        notes = Notes(tmp_path / "notes.sqlite")
        assert notes.times_found() == {}
        notes.found(["a", "b", "a"])
        assert notes.times_found() == {"a": 2, "b": 1}
        again = Notes(tmp_path / "notes.sqlite")
        again.found(["a"])
        again.flush()
        assert Notes(tmp_path / "notes.sqlite").times_found() == {"a": 3, "b": 1}

    def test_searching_does_not_wait_for_a_writer_and_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("evergallery.holdings.notes.PATIENCE", 0.1)
        path = tmp_path / "notes.sqlite"
        notes = Notes(path)
        notes.record([Problem("z", "failed", "reason")])
        other = sqlite3.connect(path)
        other.execute("begin exclusive")
        notes.found(["a"])
        notes.flush()
        other.rollback()
        other.close()
        assert notes.times_found() == {"a": 1}

    def test_problems_are_replaced_and_solved(self, tmp_path: Path) -> None:
        notes = Notes(tmp_path / "notes.sqlite")
        notes.solved(["a"])
        notes.record([Problem("b", "failed", "cut short"), Problem("a", "image missing", "gone")])
        notes.record([Problem("b", "image missing", "gone too")])
        assert notes.problems() == [Problem("a", "image missing", "gone"), Problem("b", "image missing", "gone too")]
        assert notes.problems_by_kind() == {"image missing": 2}
        notes.solved(["a", "c"])
        assert [problem.item for problem in notes.problems()] == ["b"]

"""Qdrant Edge alone: lost and damaged files, moves that were interrupted, one process at a time."""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as engine
from numpy.typing import NDArray
from plain_items import known
from test_odd_items import DIMENSIONS, NEW, OLD, item, unit_rows

from evergallery.errors import BusyError, DamagedError
from evergallery.files import write_json
from evergallery.gallery import Filter, Item, Match, View
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.edge.points import new_point
from evergallery.gallery.edge.shard import Shard
from evergallery.gallery.items import point_id


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A closed gallery of two generations."""
    with EdgeStore(tmp_path / "gallery") as store:
        for first in (0, 10, 20):
            store.put([item(number) for number in range(first, first + 10)])
        store.put([item(number, NEW) for number in range(100, 105)])
    return tmp_path / "gallery"


def the_file(directory: Path, name: str) -> Path:
    (path,) = (directory / OLD[:16]).rglob(name)
    return path


@pytest.mark.parametrize("name", ["mutable_id_tracker.mappings", "mutable_id_tracker.versions", "version.info"])
def test_points_that_the_engine_forgot_are_missed(filled: Path, name: str) -> None:
    the_file(filled, name).unlink()
    with pytest.raises(DamagedError, match=r"has lost vectors of 111111111111 \(\d+ of 30 are left\): restore it"):
        EdgeStore(filled)
    (filled / "contents.json").unlink()
    with EdgeStore(filled) as store:
        assert 5 <= store.count() < 35, "what is left can be used"


def test_generation_whose_directory_is_gone_is_missed(filled: Path) -> None:
    with EdgeStore(filled) as store:
        store.put([item(200, NEW)])
    shutil.rmtree(filled / OLD[:16])
    with pytest.raises(DamagedError, match=r"lost vectors of 111111111111 \(0 of 30 are left\)"):
        EdgeStore(filled)


def test_generation_lost_after_a_kill_is_missed_too(filled: Path) -> None:
    write_json(filled / "contents.json", {OLD: None, NEW: None})
    shutil.rmtree(filled / OLD[:16])
    with pytest.raises(DamagedError, match=r"lost vectors of 111111111111 \(0 of some are left\)"):
        EdgeStore(filled)


def test_count_of_a_session_that_was_killed_is_no_damage(filled: Path, tmp_path: Path) -> None:
    store = EdgeStore(filled)
    store.delete(["item 1"])
    # What a kill would leave: the directory as it is now, nothing closed.
    shutil.copytree(filled, tmp_path / "after the kill")
    store.close()
    with EdgeStore(tmp_path / "after the kill") as reopened:
        assert reopened.count() == 34


@pytest.mark.parametrize(("name", "content"), [("space.json", "[]"), ("payload_storage/config.json", "{")])
def test_broken_files_are_named_at_opening(filled: Path, name: str, content: str) -> None:
    the_file(filled, name).write_text(content)
    with pytest.raises(DamagedError, match=r"1111111111111111.*restore (it|them) from a backup"):
        EdgeStore(filled)


def test_vectors_cut_off_are_named_by_verify_and_by_reading(filled: Path) -> None:
    the_file(filled, "chunk_0.mmap").write_bytes(b"")
    with EdgeStore(filled) as store:
        (problem,) = store.verify()
        assert problem.startswith(f"The gallery's files in {filled / OLD[:16]} cannot be read")
        with pytest.raises(DamagedError, match="cannot be read"):
            store.get("item 1")


def test_item_in_two_generations_is_found_by_verify(filled: Path, tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "other") as other:
        other.put([item(1, NEW)])
    shutil.rmtree(filled / NEW[:16])
    shutil.copytree(tmp_path / "other" / NEW[:16], filled / NEW[:16])
    (filled / "contents.json").unlink()
    with EdgeStore(filled) as store:
        assert store.verify() == ["In the gallery, 'item 1' is in two generations: index it again."]


def test_move_that_failed_is_finished_before_the_next_write(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EdgeStore(filled)
    complete = store._complete
    calls: list[Callable[..., None]] = []

    def fail_once_after_arrival(*arguments: Any) -> None:
        if not calls:
            calls.append(complete)
            raise OSError(28, "No space left on device")
        complete(*arguments)

    monkeypatch.setattr(store, "_complete", fail_once_after_arrival)
    with pytest.raises(OSError, match="No space left"):
        store.put([item(1, NEW)])
    assert store.put([item(2, NEW)]).replaced == 1
    assert store.count_by_generation() == {OLD: 28, NEW: 7}
    store.close()


def test_one_thread_writes_at_a_time(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retrieve = EdgeStore._held
    inside: list[int] = []
    most: list[int] = []

    def slow(store: EdgeStore, *asked: Any) -> dict[str, list[Item]]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return retrieve(store, *asked)

    monkeypatch.setattr(EdgeStore, "_held", slow)
    with EdgeStore(filled) as store:
        threads = [threading.Thread(target=store.put, args=([item(number)],)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1, 1, 1, 1]


def test_who_does_not_see_a_refresh_does_not_wait_for_it(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new versions have arrived, and the old ones are not marked yet: that is two of an item, for who sees both."""
    before, after, moved = View().before("r"), View().after("r"), [item(number, NEW) for number in range(20)]
    store, query = EdgeStore(filled, lambda: before), unit_rows(1, DIMENSIONS[OLD])

    def look(view: View) -> tuple[object, ...]:
        found = store.search(query, 50, where=Filter(generations=(OLD,)), view=view)[0]
        names = [name for names in store.identifiers(view=view) for name in names]
        held = store.get_many([item(number).id for number in range(35)], view=view)
        counts = store.count_by_generation(view=view), store.count_by_label(view=view)
        return [match.item.id for match in found], names, {name: some.generation for name, some in held.items()}, counts

    looks: dict[str, tuple[object, ...]] = {"at first": look(before)}
    complete = store._complete
    later = threading.Thread(target=lambda: looks.update({"after": look(after)}))

    def beside(*arguments: Any) -> None:
        reader = threading.Thread(target=lambda: looks.update({"beside": look(before)}), daemon=True)
        later.start()
        reader.start()
        reader.join(60)
        complete(*arguments)

    monkeypatch.setattr(store, "_complete", beside)
    assert store.refresh(moved, "r") == 20
    assert looks["beside"] == looks["at first"] == look(before)
    later.join()
    assert looks["after"] == look(after)
    store.close()


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_queries_together_find_what_each_finds_alone(filled: Path, with_embeddings: bool) -> None:
    with EdgeStore(filled) as store:
        # Equal scores at the tenth place, and beyond.
        store.put([replace(item(3), id=f"copy {number:02}") for number in range(12)])
        queries = np.concatenate([item(3).embedding[None], unit_rows(4, DIMENSIONS[OLD], seed=7)])
        where = Filter(generations=(OLD,))

        def told(rows: NDArray[np.float32], least: float | None) -> list[list[Match]]:
            return store.search(rows, 10, where=where, minimum_score=least, with_embeddings=with_embeddings)

        for least in (None, 0.2):
            together, alone = told(queries, least), [told(query[None], least)[0] for query in queries]
            assert [[known_of(match) for match in row] for row in together] == [
                [known_of(match) for match in row] for row in alone
            ]
            assert all(
                match.score == pytest.approx(other.score, abs=1e-6)
                for row, others in zip(together, alone, strict=True)
                for match, other in zip(row, others, strict=True)
            )


def known_of(match: Match) -> tuple[object, ...]:
    """All that a match says but its score, to be compared."""
    return (match.item.embedding.tobytes(), *(value for name, value in vars(match.item).items() if name != "embedding"))


def test_what_is_written_while_many_are_asked_is_seen_whole(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector of an item that was found becomes another one before the item is read."""
    with EdgeStore(filled) as store:
        queries, where = unit_rows(3, DIMENSIONS[OLD], seed=7), Filter(generations=(OLD,))
        written: list[str] = []
        retrieve = Shard.retrieve

        def late(shard: Shard, points: Sequence[uuid.UUID], **options: Any) -> list[engine.Record]:
            if not written:
                written.append("item 3")
                store.put([replace(item(3), embedding=-item(3).embedding, content_hash="f" * 64)])
            return retrieve(shard, points, **options)

        monkeypatch.setattr(Shard, "retrieve", late)
        found = store.search(queries, 30, where=where, with_embeddings=True)
        assert written
        for query, matches in zip(queries, found, strict=True):
            assert len(matches) == 30
            assert all(abs(match.score - match.item.embedding @ query) < 1e-6 for match in matches)


def test_an_item_without_an_id_is_damage(filled: Path) -> None:
    with EdgeStore(filled) as store:
        store._shards[OLD].update(engine.UpdateOperation.delete_payload([point_id("item 3")], ["id"]))
        with pytest.raises(DamagedError, match=r"an item without an id .*evergallery doctor"):
            list(store.identifiers())


def test_leftovers_of_a_kill_are_cleared_away(filled: Path) -> None:
    (filled / ".writing-abc").mkdir()
    write_json(filled / "moving.json", {"to": "3" * 64, "ids": ["item 1"]})
    with EdgeStore(filled) as store:
        assert store.count() == 35
    assert sorted(path.name for path in filled.iterdir()) == [".lock", OLD[:16], NEW[:16], "contents.json"]


def test_move_that_was_killed_half_way_is_finished_when_opened(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "gallery")
    store.put([item(number) for number in range(4)])
    # The new vectors of 1 and 2 arrived, the old ones are still there, 3 had not arrived.
    store.put([item(8, NEW)])
    store._shards[NEW].update(_upsert([item(1, NEW), item(2, NEW)]))
    store.close()
    write_json(tmp_path / "gallery" / "moving.json", {"to": NEW, "ids": ["item 1", "item 2", "item 3"]})
    with EdgeStore(tmp_path / "gallery") as store:
        assert store.count_by_generation() == {OLD: 2, NEW: 3}
        assert [known(store, f"item {number}").generation for number in (0, 1, 2, 3)] == [OLD, NEW, NEW, OLD]
    assert not (tmp_path / "gallery" / "moving.json").exists()


def _upsert(items: list[Item]) -> engine.UpdateOperation:
    return engine.UpdateOperation.upsert_points(list(map(new_point, items)))


def test_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    message = rf"gallery is in use: process {os.getpid()} \(using the gallery\)"
    with EdgeStore(tmp_path / "gallery"), pytest.raises(BusyError, match=message):
        EdgeStore(tmp_path / "gallery")


def test_damaged_files_are_named(filled: Path) -> None:
    (filled / OLD[:16] / "shard" / "edge_config.json").write_text("{")
    with pytest.raises(DamagedError, match=r"files in .*1111 cannot be opened .*restore them from a backup"):
        EdgeStore(filled)
    (filled / OLD[:16] / "space.json").unlink()
    with pytest.raises(DamagedError, match=r"space\.json is missing: restore it from a backup"):
        EdgeStore(filled)


def test_verify_names_what_is_wrong(filled: Path) -> None:
    with EdgeStore(filled) as store:
        store._update(OLD, _upsert([item(3, embedding=unit_rows(1, 6)[0] * np.float32(0.5))]))
        store._update(OLD, _upsert([replace(item(50), generation=NEW)]))
        problems = store.verify()
    assert len(problems) == 2
    assert any("the vector of 'item 3' is not a unit vector of 6 dimensions" in problem for problem in problems)
    assert any("'item 50' lies among the vectors of another generation" in problem for problem in problems)

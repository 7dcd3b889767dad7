"""PostgreSQL alone: names, formats, precision, several processes at once, an index for large generations."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plain_items import NEW, OLD, item, known, vector

from evergallery.errors import DamagedError, InputError, NotFoundError, RefusedError
from evergallery.gallery import Filter, View, open_store
from evergallery.gallery.postgres import PostgresStore
from evergallery.gallery.postgres import store as postgres
from forked import forked
from servers import schema


@pytest.fixture
def place(postgres_url: str) -> Iterator[str]:
    with schema(postgres_url) as made:
        yield made


@pytest.fixture
def store(place: str) -> Iterator[PostgresStore]:
    with PostgresStore(place) as opened:
        yield opened


def sql(store: PostgresStore, command: str) -> None:
    with store._database.connection() as connection:
        connection.execute(command.format(schema=store._database.schema))


@pytest.mark.parametrize("name", ["Shop", "a-b", "1a", "pg_shop", "a" * 64, "", 'a"; DROP TABLE x; --'])
def test_names_that_a_gallery_cannot_have(postgres_url: str, name: str) -> None:
    with pytest.raises(InputError, match="The gallery cannot be called"):
        PostgresStore(f"{postgres_url}&gallery={name}")


def test_url_with_an_option_that_there_is_not() -> None:
    with pytest.raises(InputError, match="is no URL of PostgreSQL .*nonsense"):
        PostgresStore("postgresql://host/db?nonsense=1")


def test_galleries_of_one_database_are_apart(postgres_url: str) -> None:
    with (
        schema(postgres_url) as place,
        schema(postgres_url) as another_place,
        PostgresStore(place) as first,
        PostgresStore(another_place) as second,
    ):
        first.put([item(1)])
        second.put([item(1, NEW), item(2, NEW)])
        assert first.count_by_generation() == {OLD: 1}
        assert second.count_by_generation() == {NEW: 2}


def test_gallery_that_is_not_there(place: str) -> None:
    with pytest.raises(NotFoundError, match="There is no gallery postgresql://"):
        PostgresStore(place, create=False)
    PostgresStore(place).close()
    PostgresStore(place, create=False).close()


def test_newer_format_is_refused(store: PostgresStore, place: str) -> None:
    sql(store, "UPDATE {schema}.gallery SET format = 99")
    with pytest.raises(DamagedError, match="has format 99 and this version of Evergallery reads up to 2"):
        PostgresStore(place)


def test_tables_that_are_gone_are_damage(store: PostgresStore) -> None:
    sql(store, "DROP TABLE {schema}.versions")
    with pytest.raises(DamagedError, match=r"is not what was made \(relation .*versions.* does not exist"):
        store.count()


def test_user_who_may_only_read(store: PostgresStore, place: str) -> None:
    if "test@" not in place:
        pytest.skip("a server of somebody's own need not let a new user in")
    store.put([item(1)])
    role = f"reader_{store._database.schema}"
    sql(store, f"CREATE ROLE {role} LOGIN")
    sql(store, f"GRANT USAGE ON SCHEMA {{schema}} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO {role}")
    try:
        with PostgresStore(place.replace("test@", f"{role}@")) as reader:
            assert reader.get("item 1") is not None
            with pytest.raises(RefusedError, match="PostgreSQL does not allow it .*grant it to this user"):
                reader.put([item(2)])
    finally:
        sql(store, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_nul_is_refused(store: PostgresStore) -> None:
    with pytest.raises(InputError, match="has text with the character NUL"):
        store.put([item(1), item(2, label="a\0b")])
    assert store.count() == 0
    with pytest.raises(InputError, match="cannot be asked for that"):
        store.count(Filter(labels=("a\0b",)))


def test_precision(postgres_url: str, place: str) -> None:
    with PostgresStore(place, precision="float16") as store:
        store.put([item(number) for number in range(50)])
        for number in range(50):
            kept = known(store, f"item {number}").embedding
            assert kept.dtype == np.float32
            np.testing.assert_array_equal(kept, vector(number).astype(np.float16).astype(np.float32))
        (found,) = store.search(vector(3)[None], 1)
        assert found[0].item.id == "item 3"
        assert found[0].score == pytest.approx(1, abs=1e-3)
        assert store.verify() == []
    with pytest.raises(InputError, match="keeps vectors as float16, not as float32: copy it"):
        PostgresStore(place, precision="float32")
    with schema(postgres_url) as other, pytest.raises(InputError, match="as float32 or float16, not as int8"):
        PostgresStore(other, precision="int8")


def test_verify_names_what_is_wrong(store: PostgresStore) -> None:
    store.put([item(number) for number in range(4)])
    sql(store, "UPDATE {schema}.versions SET embedding = embedding + embedding WHERE id = 'item 0'")
    sql(store, "UPDATE {schema}.versions SET id = 'item 9' WHERE id = 'item 1'")
    sql(store, "UPDATE {schema}.versions SET metadata = '{{}}' WHERE id = 'item 2'")
    problems = store.verify()
    assert len(problems) == 3
    assert any("the vector of 'item 0' is not a unit vector of 8 dimensions" in problem for problem in problems)
    assert any("the item 'item 9' lies under another id" in problem for problem in problems)
    assert any("the metadata of 'item 2' are not what was stored" in problem for problem in problems)


def write(place: str, writer: int) -> None:
    """Move items to and fro between two generations, in a process of its own."""
    with closing(open_store(place)) as store:
        for turn in range(8):
            space = (OLD, NEW)[(turn + writer) % 2]
            store.put([item(number, space, label=str(writer)) for number in range(30)])


def test_processes_that_write_and_read_at_once_see_each_item_once(
    store: PostgresStore, place: str, tmp_path: Path
) -> None:
    """Two move the same items to and fro; searching and counting go on beside them."""
    store.put([item(number) for number in range(30)])
    writers = [forked(tmp_path / f"said-{number}", write, place, number) for number in range(2)]
    rounds = 0
    while any(writer.exitcode is None for writer in writers):
        assert sorted(item.id for batch in store.iterate(batch_size=4) for item in batch) == sorted(
            f"item {number}" for number in range(30)
        )
        counts = store.at_one_moment(lambda: (store.count(), sum(store.count_by_generation().values())))
        assert counts == (30, 30)
        rounds += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert rounds > 1
    assert store.verify() == []


def test_several_questions_are_of_one_moment(store: PostgresStore) -> None:
    store.put([item(1)])

    def ask() -> list[int]:
        counts = [store.count()]
        writer = threading.Thread(target=store.put, args=([item(2)],))
        writer.start()
        writer.join()
        return [*counts, store.count()]

    assert store.at_one_moment(ask) == [1, 1]
    assert store.count() == 2


def test_index_is_built_measured_and_used_where_it_serves(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "INDEXED_FROM", 500)
    store.put([item(number) for number in range(600)])
    store.put([item(number, NEW) for number in range(600, 700)])
    store.compact()
    ((generation, index),) = store.indexes().items()
    assert (generation, index.vectors, index.changed) == (OLD, 600, 0)
    assert index.recall > 0.9
    assert index.serves
    query, old = vector(5000)[None], Filter(generations=(OLD,))
    exact = [match.item.id for match in store.search(query, 10, where=old)[0]]
    assert [match.item.id for match in store.search(query, 10, where=old, exact=False)[0]] == exact
    assert [match.item.id for match in store.search(query, 10, where=old, exact=None)[0]] == exact
    assert not store.is_exact(None, old)
    assert store.is_exact(None, Filter(generations=(OLD,), labels=("class 1",)))
    assert store.is_exact(None, old, view=View(hidden=frozenset("r")))
    assert store.is_exact(False, Filter(generations=(NEW,)))
    store.delete([f"item {number}" for number in range(121)])
    assert store.indexes()[OLD].changed == 121
    assert store.is_exact(None, old), "until it is measured again"
    store.compact()
    assert store.indexes() == {}


def test_index_finds_what_a_filter_admits(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "INDEXED_FROM", 500)
    store.put([item(number, label="rare" if number % 100 == 0 else "common") for number in range(1000)])
    store.compact()
    sql(store, "DROP INDEX {schema}.versions_label_idx")
    (found,) = store.search(vector(5000)[None], 10, where=Filter(labels=("rare",)), exact=False)
    assert len(found) == 10


def test_a_server_that_comes_back_is_found_again(store: PostgresStore) -> None:
    store.put([item(1)])
    with pytest.raises(NotFoundError, match="does not answer"):
        sql(store, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert store.count() == 1


def test_closed_gallery_says_so(place: str) -> None:
    with closing(open_store(place)) as store:
        store.put([item(1)])
    with pytest.raises(NotFoundError, match="does not answer"):
        store.count()

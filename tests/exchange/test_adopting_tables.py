"""A table of PostgreSQL that somebody else keeps: adopted, searched, upgraded and let go of, and never written."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

import models
from conftest import as_json, evergallery, known
from evergallery import Workspace
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.adopted import AdoptedCollection
from evergallery.gallery.copying import copy_gallery
from evergallery.gallery.items import Filter
from evergallery.gallery.opening import open_store
from evergallery.watching import SILENT, Watcher
from foreign_tables import Table, foreign_table
from servers import directory
from shops import held_out, make_photos


def drawn(count: int = 40, dimension: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Vectors of all lengths."""
    return (3 * np.random.default_rng(seed).normal(size=(count, dimension))).astype(np.float32)


@pytest.fixture
def table(postgres_url: str) -> Iterator[Table]:
    labels = [f"class {number % 4}" for number in range(40)]
    with foreign_table(postgres_url, drawn(), labels=labels) as made:
        yield made


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "shop", size=16) as made:
        yield made


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


def test_search_answers_from_the_vectors_where_they_are(table: Table, shop: Workspace) -> None:
    before = table.traces()
    done = shop.adopt(table.url)
    assert (done.generation, done.is_new, done.rows, done.added.count) == ("v1", True, 40, 40)
    query = unit(drawn(1, seed=9))[0]
    cosines = unit(drawn()) @ query
    found = shop.search(query, k=7, generation="v1")
    assert [match.item.id for match in found] == [f"sku {row}" for row in np.argsort(-cosines)[:7]]
    np.testing.assert_allclose([match.score for match in found], np.sort(-cosines)[:7] * -1, atol=1e-5)
    few = shop.search(query, k=40, generation="v1", where=Filter(labels=("class 1",), metadata={"price": 5}))
    assert [match.item.id for match in few] == ["sku 5"]
    assert known(shop.gallery, "sku 3").metadata == {"price": 3}
    assert shop.doctor() == []
    assert table.traces() == before


def test_every_way_of_reading_agrees_with_a_gallery_of_its_own(table: Table, shop: Workspace) -> None:
    shop.adopt(table.url)
    refreshed = [
        replace(item, embedding=unit(drawn(1, 12, seed))[0], generation="b" * 64)
        for seed, item in enumerate(shop.gallery.get_many([f"sku {number}" for number in range(9)]).values())
    ]
    assert shop.gallery.refresh(refreshed, "r1") == 9
    with directory() as place, open_store(place) as copy:
        done = copy_gallery(shop.gallery, copy, SILENT)
        assert (done.items, done.versions) == (40, 49)
        kept: tuple[tuple[int, Literal["new", "old"]], ...] = ((9, "new"), (0, "old"))
        for gone, keep in kept:
            for store in (shop.gallery, copy):
                assert store.settle("r1", keep) == gone
            assert shop.gallery.count_by_generation()["b" * 64] == 9
            assert shop.gallery.count_by_generation() == copy.count_by_generation()
            assert shop.gallery.count_by_label() == copy.count_by_label()
            assert list(shop.gallery.identifiers()) == list(copy.identifiers())


def test_release_takes_away_all_that_was_added(table: Table, shop: Workspace) -> None:
    traces, everything = table.traces(), table.everything()
    shop.adopt(table.url)
    items = shop.gallery.get_many(["sku 1", "sku 2"])
    shop.register("models:wide", size=16)
    wide = shop.generation("v2").fingerprint
    new = [replace(item, embedding=unit(drawn(1, 12))[0], generation=wide) for item in items.values()]
    shop.gallery.refresh(new, "r1")
    with pytest.raises(RefusedError, match="2 vectors of v2 would be given up: keep them with  evergallery export v2"):
        shop.release()
    assert table.everything() != everything
    done = shop.release(force=True)
    assert (done.collection, done.vectors) == (f"the table {table.schema}.items", 2)
    assert table.everything() == everything
    assert table.traces() == traces
    assert (shop.gallery.count(), shop.holdings.state.store) == (0, "gallery")
    with pytest.raises(RefusedError, match="no collection is adopted"):
        shop.release()
    # The space is known again.
    again = shop.adopt(table.url)
    assert (again.generation, again.is_new, again.rows) == ("v1", False, 40)


def test_release_goes_on_where_it_was_interrupted(
    table: Table, shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.adopt(table.url)
    gallery = shop.gallery
    assert isinstance(gallery, AdoptedCollection)
    gallery.release()
    shop.holdings.__dict__.pop("gallery")
    assert shop.release().collection is None
    assert shop.gallery.count() == 0


def test_rows_that_come_go_and_change_are_noticed(table: Table, shop: Workspace) -> None:
    shop.adopt(table.url)
    store = shop.gallery
    assert isinstance(store, AdoptedCollection)
    assert not store.changes()
    changed = [
        replace(item, embedding=unit(drawn(1, 12))[0], generation="b" * 64)
        for item in store.get_many(["sku 1", "sku 2", "sku 3", "sku 4"]).values()
    ]
    store.refresh(changed, "r1")
    table.sql("DELETE FROM {items} WHERE sku = 'sku 1'")
    # What is deleted there is gone here at once, with all its versions.
    assert store.get("sku 1") is None
    assert store.count(view=None) == 39 + 3
    table.sql("UPDATE {items} SET embedding = %s::vector WHERE sku = 'sku 2'", [str([1.0] + [0.0] * 7)])
    table.sql("UPDATE {items} SET class = 'other' WHERE sku = 'sku 3'")
    table.sql("UPDATE {items} SET embedding = NULL WHERE sku = 'sku 7'")
    table.sql("UPDATE {items} SET embedding = array_fill(0, ARRAY[8])::vector WHERE sku = 'sku 8'")
    table.sql("INSERT INTO {items} SELECT 'sku new', class, photo, price, embedding FROM {items} WHERE sku = 'sku 9'")
    expected = {"rows": 38, "added": 1, "changed": 2, "gone": 3, "dropped": 2}
    for found in (store.changes(), shop.adopt()):
        counts = {name: getattr(found, name) for name in expected}
        assert {name: getattr(count, "count", count) for name, count in counts.items()} == expected
        assert found.gone.examples == ("sku 1", "sku 7", "sku 8")
        assert {reason: rows.examples for reason, rows in found.unusable.items()} == {
            "no vector": ("sku 7",),
            "a vector of zeros": ("sku 8",),
        }
    assert not store.changes()
    assert store.get("sku new") is not None
    assert known(store, "sku 2").generation == store.generation
    assert known(store, "sku 2").embedding.tolist() == [1.0] + [0.0] * 7
    labels = {(item.generation == store.generation, item.label) for item in store._held(["sku 3"])["sku 3"]}
    assert labels == {(True, "other"), (False, "other")}
    assert store.settle("r1", "old") == 2
    (zeros, nothing) = shop.doctor()
    assert "items 1 ('sku 8') rows have a vector of zeros, and are left out" in zeros
    assert "items 1 ('sku 7') rows have no vector, and are left out" in nothing
    table.sql("DELETE FROM {items} WHERE sku IN ('sku 7', 'sku 8', 'sku 9')")
    assert [fault.partition("items ")[2] for fault in shop.doctor()] == [
        "1 ('sku 9') rows are gone since they were last taken up: take them up with  evergallery adopt"
    ]


def test_adopting_goes_on_where_it_was_interrupted(
    table: Table, shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evergallery.gallery.postgres import adopted

    monkeypatch.setattr(adopted, "BATCH", 10)

    class Interrupter(Watcher):
        def counted(self, activity: str, done: int, total: int) -> None:
            if done >= 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.adopt(table.url, watcher=Interrupter())
    assert shop.holdings.state.store == "gallery"
    assert table.sql(f"SELECT count(*) FROM {table.gallery}.notes") == [(20,)]
    done = shop.adopt(table.url)
    assert (done.rows, done.added.count, done.generation) == (40, 20, "v1")
    assert shop.gallery.count() == 40


def test_items_are_changed_in_the_table_alone(table: Table, shop: Workspace, tmp_path: Path) -> None:
    shop.adopt(table.url)
    item = shop.gallery.get("sku 1")
    assert item is not None
    for write in (
        lambda: shop.add([item]),
        lambda: shop.gallery.delete(["sku 1"]),
        lambda: shop.gallery.put_versions([item]),
        lambda: shop.index(held_out()),
        lambda: shop.import_vectors(tmp_path / "none.npz"),
    ):
        with pytest.raises(
            RefusedError, match=r"are the rows of the table .*items, which is only read: change them there"
        ):
            write()
    assert shop.gallery.count() == 40


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("items&", "itemz&"), NotFoundError, "The database has no table '.*itemz': name one with table="),
        (("id=sku", "id=skew"), InputError, "has no column 'skew' for id=; it has sku, class, photo"),
        (("id=sku", "id=class"), InputError, "has 4 values that several rows share, such as 'class"),
        (("id=sku", "id=sku&vector=class"), InputError, "column class of .* is of type text: vectors of pgvector are"),
        (("label=class", "label=nothing"), InputError, "no column 'nothing' for label="),
        (("table=", "tables="), InputError, "names no table: write  postgresql://"),
        (("label=class", "label=class&label=sku"), InputError, "says label= twice"),
        (("gallery=", "gallery=No"), InputError, "The gallery cannot be called 'No"),
        (("metadata=price", "metadata=prize"), InputError, "no column 'prize' for metadata="),
    ],
)
def test_what_cannot_be_adopted(
    table: Table, shop: Workspace, change: tuple[str, str], error: type[Exception], message: str
) -> None:
    everything = table.everything()
    with pytest.raises(error, match=message):
        shop.adopt(table.url.replace(*change, 1))
    assert table.everything() == everything
    assert shop.generations() == []
    assert shop.holdings.state.store == "gallery"


def test_tables_without_vectors(postgres_url: str, shop: Workspace) -> None:
    with foreign_table(postgres_url, drawn()) as table:
        table.sql("UPDATE {items} SET embedding = NULL")
        with pytest.raises(InputError, match="has no row with an id and a vector that can be used in embedding"):
            shop.adopt(table.url)
        table.sql("ALTER TABLE {items} DROP COLUMN embedding")
        with pytest.raises(InputError, match=r"has 0 columns of vectors \(none\): name one with vector="):
            shop.adopt(table.url)
    with pytest.raises(InputError, match="no collection that can be adopted"):
        shop.adopt("mysql://host/db?table=items")


def test_database_without_pgvector_is_left_without_it(postgres_url: str, shop: Workspace) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE plain TEMPLATE template0")
        try:
            plain = postgres_url.replace("/postgres?", "/plain?")
            with psycopg.connect(plain) as inside:
                inside.execute("CREATE TABLE items (id text PRIMARY KEY, embedding text)")
            with pytest.raises(NotFoundError, match="has no pgvector, and so no column of vectors"):
                shop.adopt(f"{plain}&table=items")
            with psycopg.connect(plain) as inside:
                assert inside.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'").fetchone() == (0,)
        finally:
            connection.execute("DROP DATABASE plain WITH (FORCE)")


def test_user_who_may_only_read(table: Table, shop: Workspace) -> None:
    import psycopg

    role = f"reader_{table.schema[-8:]}"
    url = table.url.replace("//test@", f"//{role}@")
    database = psycopg.conninfo.conninfo_to_dict(table.server)["dbname"]
    table.sql(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(RefusedError, match=f"permission denied for schema {table.schema}"):
            shop.adopt(url)
        table.sql(f"GRANT USAGE ON SCHEMA {table.schema} TO {role}")
        with pytest.raises(RefusedError, match="permission denied for table items"):
            shop.adopt(url)
        table.sql(f"GRANT SELECT ON {table.schema}.items TO {role}")
        with pytest.raises(RefusedError, match=f"permission denied for database {database}"):
            shop.adopt(url)
        table.sql(f"GRANT CREATE ON DATABASE {database} TO {role}")
        before = table.traces()
        assert shop.adopt(url).rows == 40
        item = known(shop.gallery, "sku 1")
        shop.gallery.refresh([replace(item, generation="b" * 64)], "r1")
        assert shop.gallery.settle("r1", "new") == 1
        assert table.traces() == before
        shop.release(force=True)
    finally:
        table.sql(f"DROP OWNED BY {role}")
        table.sql(f"DROP ROLE {role}")


def test_schema_that_was_made_for_us_stays(table: Table, shop: Workspace) -> None:
    table.sql(f"CREATE SCHEMA {table.gallery}")
    table.sql(f"CREATE TABLE {table.gallery}.somebodys (id integer)")
    shop.adopt(table.url)
    shop.release()
    assert table.sql("SELECT tablename FROM pg_tables WHERE schemaname = %s", [table.gallery]) == [("somebodys",)]


def test_one_workspace_at_a_time(table: Table, shop: Workspace, tmp_path: Path) -> None:
    shop.adopt(table.url)
    with Workspace.create(tmp_path / "other", size=16) as other:
        with pytest.raises(RefusedError, match=r"was adopted by the workspace .*shop on .* as postgresql"):
            other.adopt(table.url)
        assert other.adopt(f"{table.url}_too").rows == 40
        other.release()


def test_gallery_with_items_is_not_given_up(table: Table, shop: Workspace, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", ids=np.array(["a"]), embeddings=drawn(1))
    shop.import_vectors(tmp_path / "v.npz")
    with pytest.raises(RefusedError, match="holds items: adopt the table .* in a workspace of its own"):
        shop.adopt(table.url)


def test_vectors_of_a_model_that_is_here(table: Table, shop: Workspace, tmp_path: Path) -> None:
    shop.register(models.worn, size=16)
    shop.register(models.wide, size=16)
    with pytest.raises(RefusedError, match="nothing says that it made the vectors .*--into v1"):
        shop.adopt(table.url)
    with pytest.raises(InputError, match="has vectors of 8 dimensions and v2 makes vectors of 12"):
        shop.adopt(table.url, into="v2")
    assert shop.adopt(table.url, into="v1").generation == "v1"
    with pytest.raises(RefusedError, match="are adopted as those of v1: to name v2 instead, let go of them first"):
        shop.adopt(table.url, into="v2")
    photo = next(make_photos(tmp_path / "photos", each=1).rglob("*.png"))
    assert len(shop.search(photo, k=3)) == 3


@pytest.mark.parametrize("key", ["integer", "bigint", "uuid", "varchar(40)", "numeric", 'text COLLATE "C"', "citext"])
def test_ids_of_every_type(postgres_url: str, shop: Workspace, key: str) -> None:
    with foreign_table(postgres_url, drawn(12), ids=[str(number) for number in range(12)]) as table:
        value = "md5(sku)::uuid" if key == "uuid" else f"sku::{key.partition(' ')[0]}"
        if key == "citext":
            # A type of somebody else's: here one that they have made.
            table.sql(f"CREATE DOMAIN {table.schema}.citext AS text")
            key = f"{table.schema}.citext"
            value = f"sku::{key}"
        table.sql(f"ALTER TABLE {{items}} ALTER sku TYPE {key} USING {value}")
        assert shop.adopt(table.url).rows == 12
        ids = {str(sku) for (sku,) in table.sql("SELECT sku::text FROM {items}")}
        assert {item for batch in shop.gallery.identifiers() for item in batch} == ids
        table.sql("DELETE FROM {items} WHERE ctid IN (SELECT ctid FROM {items} LIMIT 1)")
        assert shop.adopt().gone.count == 1
        shop.release()


def test_odd_names_half_precision_and_mixed_dimensions(postgres_url: str, shop: Workspace) -> None:
    with foreign_table(postgres_url, drawn(), kind="halfvec") as table:
        odd = f'{table.schema}."Odd 100% ""name"""'
        table.sql(
            f'CREATE TABLE {odd} AS SELECT sku AS "the %s id", class AS "cl\'ass", embedding::halfvec AS "v e" FROM {{items}}'
        )
        table.sql(f'ALTER TABLE {odd} ALTER "v e" TYPE halfvec')
        table.sql(f"INSERT INTO {odd} VALUES ('wide', NULL, '[1,2]'), (NULL, NULL, '[1,2,3,4,5,6,7,8]')")
        url = (
            f"{table.server}&table={table.schema}.Odd%20100%25%20%22name%22&id=the%20%25s%20id&label=cl%27ass&vector=v%20e"
            f"&gallery={table.gallery}"
        )
        done = shop.adopt(url)
        assert done.rows == 40
        assert {reason: rows.count for reason, rows in done.unusable.items()} == {
            "a vector of 2 dimensions, not 8": 1,
            "no id": 1,
        }
        assert shop.gallery.precision == "float16"
        query = unit(drawn())[5]
        assert shop.search(query, k=1, generation="v1")[0].item.id == "sku 5"
        assert shop.adopt().added.count == 0
        table.sql(f"DROP TABLE {odd}")
        with pytest.raises(
            NotFoundError, match="no longer what was adopted as .*: bring it back, or let go of it with"
        ):
            shop.gallery.count()
        shop.release()


def test_columns_that_change_their_names(table: Table, shop: Workspace) -> None:
    shop.adopt(table.url)
    # Nothing of ours hinders the owners of the table.
    table.sql("ALTER TABLE {items} RENAME embedding TO old_embedding")
    with pytest.raises(NotFoundError, match=r"embedding does not exist\): bring it back"):
        shop.gallery.get("sku 1")
    table.sql("ALTER TABLE {items} RENAME old_embedding TO embedding")
    table.sql("ALTER TABLE {items} ALTER class TYPE varchar(80)")
    assert shop.gallery.get("sku 1") is not None


def test_whole_upgrade(postgres_url: str, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=8)
    with Workspace.create(tmp_path / "theirs", size=16) as theirs:
        theirs.register(models.worn, size=16)
        theirs.index(photos)
        items = [item for batch in theirs.gallery.iterate() for item in batch]
    with (
        foreign_table(
            postgres_url,
            np.stack([item.embedding for item in items]),
            ids=[item.id for item in items],
            labels=[item.label for item in items],
            uris=[item.uri for item in items],
        ) as table,
        Workspace.create(tmp_path / "shop", size=16) as shop,
    ):
        (shop.directory / "gate.toml").write_text("cross_test = -10.0\nnegative_flips = 20.0\nqueries = 200\n")
        before = table.traces()
        shop.register(models.worn, size=16)
        shop.adopt(table.url, into="v1")
        shop.allow_images(photos)
        query = next(photos.rglob("*.png"))
        old = [(match.item.id, match.score) for match in shop.search(query, k=5)]
        shop.register(models.turned, size=16)
        shop.check("v2", held_out())
        shop.plan("v2")
        done = shop.refresh("v2")
        assert (done.refreshed, done.remaining) == (len(items), 0)
        shop.promote("v2", force=True, why="it is a test")
        new = [match.item.id for match in shop.search(query, k=5)]
        shop.rollback()
        assert [(match.item.id, match.score) for match in shop.search(query, k=5)] == old
        shop.promote("v2", force=True, why="it is a test")
        assert [match.item.id for match in shop.search(query, k=5)] == new
        assert table.traces() == before
        # A row that comes is found by nobody until the generation that answers has looked at its picture.
        for step in ("shown", "committed"):
            table.sql(
                "INSERT INTO {items} SELECT %s, class, photo, price, embedding FROM {items} WHERE sku = %s",
                [step, items[0].id],
            )
            caught = shop.adopt()
            assert (caught.added.count, caught.caught_up, caught.waiting) == (1, 1, 0)
            assert shop.search(query, k=5) != []
            assert known(shop.gallery, step).generation == shop.generation("v2").fingerprint
            if step == "shown":
                shop.rollback()
                assert known(shop.gallery, step).generation == shop.generation("v1").fingerprint
                shop.promote("v2", force=True, why="it is a test")
                shop.commit()
        table.sql("UPDATE {items} SET photo = '/nowhere.png' WHERE sku = 'shown'")
        lost = shop.adopt()
        assert (lost.changed.count, lost.dropped, lost.caught_up, lost.waiting) == (1, 1, 0, 1)
        assert shop.gallery.get("shown") is None
        assert shop.gallery.count() == len(items) + 1
        shop.release(force=True)


def test_their_own_index_answers_once_it_was_measured(
    table: Table, shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evergallery.gallery.postgres import store

    monkeypatch.setattr(store, "INDEXED_FROM", 20)
    shop.adopt(table.url)
    assert shop.compact() == {}
    table.sql("CREATE INDEX ON {items} USING hnsw (embedding vector_l2_ops)")
    assert shop.compact() == {}
    table.sql("CREATE INDEX ON {items} USING hnsw (embedding vector_cosine_ops)")
    before = table.traces()
    assert shop.compact()["v1"].recall == 1
    queries = unit(drawn(3, seed=4))
    label = Filter(labels=("class 1",))
    for where in (Filter(), label):
        exact, through = (shop.gallery.search(queries, 5, where=where, exact=exact) for exact in (True, False))
        assert [[match.item.id for match in found] for found in through] == [
            [match.item.id for match in found] for found in exact
        ]
        np.testing.assert_allclose(
            [match.score for match in through[0]], [match.score for match in exact[0]], atol=1e-5
        )
    assert not shop.gallery.is_exact(None)
    assert table.traces() == before


def test_from_the_command_line(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shop = tmp_path / "shop"
    evergallery("init", shop)
    said = evergallery("adopt", table.url.replace("test@", "test:secret@"), "-w", shop)
    assert "The password in the URL is left out" in said.stderr
    assert f"40 rows of the table {table.schema}.items are in the gallery, with vectors of v1, a new gen" in said.stdout
    assert "a new generation without a model: 40 new" in said.stdout
    assert not any(b"secret" in path.read_bytes() for path in shop.rglob("*") if path.is_file())
    assert len(as_json("search", "--item", "sku 1", "-k", 3, "-w", shop)) == 3
    table.sql("DELETE FROM {items} WHERE sku = 'sku 1'")
    assert as_json("adopt", "-w", shop)["gone"] == {"count": 1, "examples": ["sku 1"]}
    assert "is as it was; the gallery of" in evergallery("release", "-w", shop).stdout
    assert "no collection is adopted" in evergallery("adopt", "-w", shop, expect=1).stderr

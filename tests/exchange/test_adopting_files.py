"""A file of vectors that somebody else keeps: adopted, searched, upgraded and let go of, and never written."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import models
from conftest import as_json, evergallery, known
from evergallery import Workspace
from evergallery.errors import InputError, RefusedError
from evergallery.gallery.adopted import AdoptedCollection
from evergallery.watching import Watcher
from shops import held_out, make_photos

pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")


def drawn(count: int = 40, dimension: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return (3 * np.random.default_rng(seed).normal(size=(count, dimension))).astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


def write(path: Path, rows: dict[str, NDArray[np.float32]], **columns: Sequence[object]) -> Path:
    """A Parquet table of vectors by id."""
    from pyarrow import parquet

    table = {"id": list(rows), "vector": [vector.tolist() for vector in rows.values()], **columns}
    parquet.write_table(pa.table(table), path)
    return path


@pytest.fixture
def rows() -> dict[str, NDArray[np.float32]]:
    return {f"sku {number}": vector for number, vector in enumerate(drawn())}


@pytest.fixture
def file(tmp_path: Path, rows: dict[str, NDArray[np.float32]]) -> Path:
    return write(tmp_path / "vectors.parquet", rows)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "shop", size=16) as made:
        yield made


def test_adopted_searched_and_released(file: Path, shop: Workspace) -> None:
    before, everything = file.read_bytes(), sorted(path.name for path in shop.directory.iterdir())
    done = shop.adopt(file)
    assert (done.generation, done.rows, done.added.count, done.copied) == ("v1", 40, 40, 40 * 8 * 4)
    query = unit(drawn(1, seed=9))[0]
    found = shop.search(query, k=7, generation="v1")
    assert [match.item.id for match in found] == [f"sku {row}" for row in np.argsort(-(unit(drawn()) @ query))[:7]]
    assert shop.doctor() == []
    item = shop.gallery.get("sku 1")
    assert item is not None
    for change in (lambda: shop.add([item]), lambda: shop.gallery.delete(["sku 1"]), lambda: shop.index(held_out())):
        with pytest.raises(RefusedError, match=r"are the rows of the file .*vectors.parquet, which is only read"):
            change()
    shop.release()
    assert file.read_bytes() == before
    left = {path.name for path in shop.directory.iterdir()} - set(everything)
    assert left <= {"gallery", "log.jsonl", "generations", "held.json", "notes.sqlite", ".lock"}
    assert shop.gallery.count() == 0
    assert shop.adopt(file).generation == "v1"


def test_rows_that_come_go_and_change_are_noticed(
    file: Path, shop: Workspace, rows: dict[str, NDArray[np.float32]]
) -> None:
    shop.adopt(file)
    store = shop.gallery
    assert isinstance(store, AdoptedCollection)
    assert not store.changes()
    newer = shop.gallery.get_many(["sku 1", "sku 2", "sku 3"])
    store.refresh([replace(item, generation="b" * 64) for item in newer.values()], "r1")
    del rows["sku 1"]
    rows["sku 2"] = drawn(1, seed=5)[0]
    rows["sku new"] = drawn(1, seed=6)[0]
    rows["sku bad"] = np.zeros(8, np.float32)
    write(file, rows, label=["red" if name == "sku 3" else None for name in rows])
    assert len([fault for fault in shop.doctor() if "evergallery adopt" in fault]) == 3
    for found in (store.changes(), shop.adopt()):
        assert (found.rows, found.added.examples, found.changed.examples) == (40, ("sku new",), ("sku 2", "sku 3"))
        assert (found.gone.examples, found.dropped) == (("sku 1",), 2)
        assert [rows.count for rows in found.unusable.values()] == [1]
    assert not store.changes()
    assert {(item.generation == "b" * 64, item.label) for item in store._held(["sku 3"])["sku 3"]} == {
        (True, "red"),
        (False, "red"),
    }
    assert [item.generation == store.generation for item in store._held(["sku 2"])["sku 2"]] == [True]
    file.unlink()
    with pytest.raises(InputError, match="There is no file"):
        shop.adopt()
    with pytest.raises(RefusedError, match="1 vectors of bbbbbbbbbbbb would be given up"):
        shop.release()
    assert shop.release(force=True).vectors == 1


def test_adopting_goes_on_where_it_was_interrupted(
    file: Path, shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evergallery.gallery.edge import adopted

    monkeypatch.setattr(adopted, "BATCH", 10)

    class Interrupter(Watcher):
        def counted(self, activity: str, done: int, total: int) -> None:
            if done >= 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.adopt(file, watcher=Interrupter())
    assert (shop.holdings.state.store, shop.gallery.count()) == ("gallery", 0)
    other = write(tmp_path / "other.parquet", {"a": drawn(1)[0]})
    with pytest.raises(RefusedError, match=r"The adoption of .*vectors.parquet was begun and not finished"):
        shop.adopt(other)
    assert (shop.adopt(file).added.count, shop.gallery.count()) == (20, 40)
    with pytest.raises(RefusedError, match=r"What is adopted is the file .*vectors.parquet, or other columns of it"):
        shop.adopt(other)


def test_whole_upgrade(shop: Workspace, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=8)
    with Workspace.create(tmp_path / "theirs", size=16) as theirs:
        theirs.register(models.worn, size=16)
        theirs.index(photos)
        items = [item for batch in theirs.gallery.iterate() for item in batch]
    table = {item.id: item.embedding for item in items}
    addresses, labels = [item.uri for item in items], [item.label for item in items]
    file = write(tmp_path / "theirs.parquet", table, uri=addresses, label=labels)
    (shop.directory / "gate.toml").write_text("cross_test = -10.0\nnegative_flips = 20.0\nqueries = 200\n")
    shop.register(models.worn, size=16)
    shop.adopt(file, into="v1")
    shop.allow_images(photos)
    query = next(photos.rglob("*.png"))
    old = [(match.item.id, match.score) for match in shop.search(query, k=5)]
    shop.register(models.turned, size=16)
    shop.check("v2", held_out())
    assert shop.refresh("v2").remaining == 0
    shop.promote("v2", force=True, why="it is a test")
    for step in ("shown", "committed"):
        table[step] = items[0].embedding
        addresses.append(addresses[0])
        labels.append(labels[0])
        write(file, table, uri=addresses, label=labels)
        caught = shop.adopt()
        assert (caught.added.count, caught.caught_up, caught.waiting) == (1, 1, 0)
        assert shop.search(query, k=5) != []
        assert known(shop.gallery, step).generation == shop.generation("v2").fingerprint
        if step == "shown":
            shop.rollback()
            assert known(shop.gallery, step).generation == shop.generation("v1").fingerprint
            assert [(match.item.id, match.score) for match in shop.search(query, k=6) if match.item.id != step][
                :5
            ] == old
            shop.promote("v2", force=True, why="it is a test")
            shop.commit()
    assert not shop.adopt().added


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    faiss = pytest.importorskip("faiss", reason="the extra faiss is not installed")
    index = faiss.IndexFlatIP(8)
    index.add(drawn())
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    (tmp_path / "ids.txt").write_text("".join(f"sku {number}\n" for number in range(40)))
    evergallery("init", tmp_path / "shop")
    said = evergallery("adopt", tmp_path / "index.faiss", "--ids", tmp_path / "ids.txt", "-w", tmp_path / "shop")
    assert "40 rows of the file" in said.stdout
    assert "Its vectors are copied into the gallery to be searched: 0.0 MB" in said.stdout
    assert len(as_json("search", "--item", "sku 1", "-k", 3, "-w", tmp_path / "shop")) == 3
    assert as_json("adopt", "-w", tmp_path / "shop")["added"]["count"] == 0
    evergallery("release", "-w", tmp_path / "shop")
    assert "is no table of vectors" in evergallery("adopt", "none.csv", "-w", tmp_path / "shop", expect=2).stderr
    assert "sku 1" in evergallery("search", "--item", "sku 1", "-w", tmp_path / "shop", expect=3).stderr

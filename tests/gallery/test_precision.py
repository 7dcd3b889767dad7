"""Vectors kept in fewer bytes: what comes back, what is the same item, what a search finds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain_items import known

from evergallery import Workspace
from evergallery.data.unit_vectors import UNIT_TOLERANCE
from evergallery.errors import DamagedError, InputError
from evergallery.gallery import Item
from evergallery.gallery.edge import EdgeStore, shard
from evergallery.gallery.items import Precision
from evergallery.gallery.opening.restoring import restore

OLD, NEW = "1" * 64, "2" * 64
DIMENSION = 32


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    made: np.ndarray = values / np.linalg.norm(values, axis=1, keepdims=True)
    return made


def items(count: int, generation: str = OLD, seed: int = 0) -> list[Item]:
    rows = unit_rows(count, seed)
    return [Item(f"item {row}", rows[row], generation, "a", None, None, "2026-01-01") for row in range(count)]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_an_item_comes_back_rounded_and_is_the_same_when_it_is_put_again(tmp_path: Path, precision: Precision) -> None:
    given = items(50)
    with EdgeStore(tmp_path / "gallery", precision=precision) as store:
        assert store.put(given).added == 50
        assert store.put(given).unchanged == 50
        assert store.put([replace(given[3], embedding=given[4].embedding)]).replaced == 1
        store.put(given)
    with EdgeStore(tmp_path / "gallery") as store:
        assert store.precision == precision
        assert store.verify() == []
        back = {item.id: item for batch in store.iterate() for item in batch}
        assert store.put(list(back.values())).unchanged == 50, "what was read can be put back"
        (best,) = store.search(given[7].embedding[None], 1, with_embeddings=True)[0]
        assert best.item.id == "item 7"
        assert best.score == pytest.approx(1, abs=1e-3)
    for item in given:
        expected = item.embedding if precision == "float32" else item.embedding.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(back[item.id].embedding, expected)
        assert abs(np.linalg.norm(back[item.id].embedding) - 1) < UNIT_TOLERANCE
    np.testing.assert_array_equal(best.item.embedding, back["item 7"].embedding)


def test_rounding_never_leaves_the_length_of_a_unit_vector(tmp_path: Path) -> None:
    """Half precision is off by 2**-11 at most, however the components lie."""
    draw = np.random.default_rng(0)
    for scale in (1e-8, 1e-4, 1e-2, 1):
        rows = draw.normal(size=(2000, 8)) * np.where(np.arange(8) < 3, 1, scale)
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        norms = np.linalg.norm(rows.astype(np.float16).astype(np.float32), axis=1)
        assert np.abs(norms - 1).max() <= 2**-11 + 1e-6 < UNIT_TOLERANCE


def test_refreshing_and_going_back_change_no_bit(tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "gallery", precision="float16") as store:
        store.put(items(20))
        before = {item.id: item.embedding for batch in store.iterate() for item in batch}
        content = [replace(item, content_hash=None) for item in items(20, NEW, seed=1)]
        assert store.refresh(content, "refresh 1") == 20
        assert store.settle("refresh 1", "old") == 20
        after = {item.id: item.embedding for batch in store.iterate() for item in batch}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_index_of_bytes_finds_nearly_all_and_scores_as_exact_search_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "INDEX_FROM", 500)
    queries = unit_rows(50, seed=5)
    with EdgeStore(tmp_path / "gallery", precision="int8") as store:
        store.put(items(1500))
        store.compact()
        assert store.indexes()[OLD].recall >= 0.95
        assert list((tmp_path / "gallery").rglob("quantized.data")), "it is there"
        exact, fast = (store.search(queries, 10, exact=way) for way in (True, False))
    hits = [
        len({match.item.id for match in true} & {match.item.id for match in found}) / 10
        for true, found in zip(exact, fast, strict=True)
    ]
    assert np.mean(hits) >= 0.95
    scores = {(number, match.item.id): match.score for number, found in enumerate(exact) for match in found}
    for number, found in enumerate(fast):
        for match in found:
            assert match.score == pytest.approx(scores.get((number, match.item.id), match.score), abs=1e-5)


def test_the_precision_of_a_gallery_stays(tmp_path: Path) -> None:
    EdgeStore(tmp_path / "half", precision="float16").close()
    with pytest.raises(InputError, match=r"keeps its vectors in float16, not int8: open it as it is, or copy it"):
        EdgeStore(tmp_path / "half", precision="int8")
    with EdgeStore(tmp_path / "whole") as store:
        store.put(items(1))
    with pytest.raises(InputError, match=r"keeps its vectors in float32, not float16"):
        EdgeStore(tmp_path / "whole", precision="float16")
    with pytest.raises(InputError, match=r"no precision 'float8': give float32, float16, int8"):
        EdgeStore(tmp_path / "new", precision="float8")  # type: ignore[arg-type]
    (tmp_path / "half" / "precision.json").write_text('{"precision": "float8"}')
    with pytest.raises(DamagedError, match=r"precision\.json names a precision 'float8' that is not known"):
        EdgeStore(tmp_path / "half")


def test_a_gallery_from_before_there_were_precisions_is_of_float32(tmp_path: Path) -> None:
    given = items(5)
    with EdgeStore(tmp_path / "gallery") as store:
        store.put(given)
    (path,) = (tmp_path / "gallery").rglob("space.json")
    content = json.loads(path.read_text())
    del content["precision"]
    path.write_text(json.dumps(content))
    with EdgeStore(tmp_path / "gallery") as store:
        assert store.precision == "float32"
        np.testing.assert_array_equal(known(store, "item 3").embedding, given[3].embedding)


def test_a_snapshot_keeps_the_precision(tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "gallery", precision="float16") as store:
        store.put(items(5))
        store.snapshot(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "again")
    with EdgeStore(tmp_path / "again") as again:
        assert (again.precision, again.count(), again.verify()) == ("float16", 5, [])


def test_a_workspace_of_half_precision_goes_round(tmp_path: Path) -> None:
    rows = unit_rows(30)
    np.savez(tmp_path / "rows.npz", ids=np.array([f"item {row}" for row in range(30)]), embeddings=rows)
    with Workspace.create(tmp_path / "shop", precision="float16") as shop:
        shop.import_vectors(tmp_path / "rows.npz")
        assert shop.import_vectors(tmp_path / "rows.npz").unchanged == 30
        assert shop.search(item="item 4", k=3)[0].item.id != "item 4"
        assert shop.doctor() == []
        before = [(match.item.id, match.score) for match in shop.search(rows[0], k=10)]
        shop.export_vectors(tmp_path / "back.npz")
    with Workspace.create(tmp_path / "other") as other:
        other.import_vectors(tmp_path / "back.npz")
        after = [(match.item.id, match.score) for match in other.search(rows[0], k=10)]
    assert [name for name, _ in after] == [name for name, _ in before]
    np.testing.assert_allclose([score for _, score in after], [score for _, score in before], atol=1e-3)

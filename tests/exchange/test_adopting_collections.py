"""A collection of Qdrant that somebody else keeps: adopted, searched, refreshed and let go of, and never written."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import models

from evergallery import Workspace
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.adopted import AdoptedCollection
from evergallery.gallery.copying import copy_gallery
from evergallery.gallery.items import Filter
from evergallery.gallery.opening import open_store
from evergallery.gallery.qdrant import adopted, adopting
from evergallery.watching import SILENT
from servers import collection, directory

NEW = "b" * 64


def drawn(count: int = 40, dimension: int = 8, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


@dataclass(frozen=True)
class ForeignCollection:
    """A collection of forty points, with two named vectors.

    Attributes:
        url: that names it and what is read of it.
        client: of its server.
        name: of the collection.
    """

    url: str
    client: Any
    name: str

    def everything(self) -> tuple[Any, ...]:
        """Every point to the bit, how the collection is made, and what other collections there are."""
        records, _ = self.client.scroll(self.name, limit=1000, with_vectors=True)
        others = sorted(collection.name for collection in self.client.get_collections().collections)
        points = [
            (record.id, record.payload, {name: np.round(vector, 5).tolist() for name, vector in record.vector.items()})
            for record in records
        ]
        return points, self.client.get_collection(self.name).config.model_dump(), others


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForeignCollection]:
    with collection(monkeypatch) as place:
        server = place.rpartition("/")[0]
        client = adopting.client_of(place)  # type: ignore[attr-defined]
        name = f"theirs_{uuid.uuid4().hex}"
        space = models.VectorParams(size=8, distance=models.Distance.COSINE)
        other = models.VectorParams(size=3, distance=models.Distance.EUCLID)
        client.create_collection(name, vectors_config={"image": space, "other": other})
        client.upsert(
            name,
            [
                models.PointStruct(
                    id=number if number % 2 else str(uuid.UUID(int=number)),
                    vector={"image": vector, "other": [1.0, 2.0, 3.0]},
                    payload={"class": f"class {number % 4}", "price": number, "photo": f"{number}.jpg"},
                )
                for number, vector in enumerate(drawn().tolist())
            ],
        )
        options = "vector=image&label=class&uri=photo&base=/photos/&metadata=price"
        yield ForeignCollection(f"{server}/{name}?{options}", client, name)
        for collection_name in (name, f"evergallery_{name}"):
            client.delete_collection(collection_name)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "shop", size=16) as made:
        yield made


def refreshed(shop: Workspace, numbers: range, refresh: str = "r1") -> int:
    items = shop.gallery.get_many([str(number) for number in numbers if number % 2])
    made = [
        replace(item, embedding=drawn(1, 12, seed)[0], generation=NEW)
        for seed, item in enumerate(sorted(items.values(), key=lambda item: item.id))
    ]
    return shop.gallery.refresh(made, refresh)


def test_adopted_searched_and_released(theirs: ForeignCollection, shop: Workspace) -> None:
    before = theirs.everything()
    done = shop.adopt(theirs.url)
    assert (done.generation, done.rows, done.added.count, done.unusable) == ("v1", 40, 40, {})
    query = drawn(1, seed=9)[0]
    cosines = drawn() @ query
    names = [str(number) if number % 2 else str(uuid.UUID(int=number)) for number in range(40)]
    found = shop.search(query, k=7, generation="v1")
    assert [match.item.id for match in found] == [names[row] for row in np.argsort(-cosines)[:7]]
    np.testing.assert_allclose([match.score for match in found], np.sort(-cosines)[:7] * -1, atol=1e-5)
    few = shop.search(query, k=40, generation="v1", where=Filter(labels=("class 1",)))
    assert {match.item.id for match in few} == {names[number] for number in range(1, 40, 4)}
    item = shop.gallery.get("5")
    assert item is not None
    assert (item.label, item.uri, dict(item.metadata)) == ("class 1", "/photos/5.jpg", {"price": 5})
    np.testing.assert_allclose(item.embedding, drawn()[5], atol=1e-6)
    assert shop.doctor() == []
    assert refreshed(shop, range(10)) == 5
    with pytest.raises(RefusedError, match="5 vectors of bbbbbbbbbbbb would be given up"):
        shop.release()
    assert shop.release(force=True).vectors == 5
    assert theirs.everything() == before


def test_every_way_of_reading_agrees_with_a_gallery_of_its_own(theirs: ForeignCollection, shop: Workspace) -> None:
    shop.adopt(theirs.url)
    assert refreshed(shop, range(20)) == 10
    with directory() as place, open_store(place) as copy:
        done = copy_gallery(shop.gallery, copy, SILENT)
        assert (done.items, done.versions) == (40, 50)
        kept: tuple[tuple[int, Literal["new", "old"]], ...] = ((10, "new"), (0, "old"))
        for gone, keep in kept:
            for store in (shop.gallery, copy):
                assert store.settle("r1", keep) == gone
            assert shop.gallery.count_by_generation() == copy.count_by_generation()
            assert shop.gallery.count_by_label() == copy.count_by_label()
            assert list(shop.gallery.identifiers()) == list(copy.identifiers())
            asked = Filter(generations=(shop.generation("v1").fingerprint,))
            answers = [store.search(drawn(3, seed=5), 40, where=asked) for store in (shop.gallery, copy)]
            assert len({str([[match.item.id for match in one_query] for one_query in found]) for found in answers}) == 1
            assert [len(answer) for answer in answers[0]] == [30, 30, 30]


def test_search_looks_through_what_many_points_hide(
    theirs: ForeignCollection, shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopted, "FIRST_LIMIT", 2)
    monkeypatch.setattr(adopted, "NAMED_AT_ONCE", 0)
    shop.adopt(theirs.url)
    query = drawn(1, seed=3)
    label = Filter(labels=("class 1",), generations=(shop.generation("v1").fingerprint,))
    (found,) = shop.gallery.search(query, 3, where=label)
    cosines = drawn() @ query[0]
    wanted = sorted(range(1, 40, 4), key=lambda number: -cosines[number])[:3]
    assert [match.item.id for match in found] == [str(number) for number in wanted]


def test_points_that_come_go_and_change_are_noticed(theirs: ForeignCollection, shop: Workspace) -> None:
    shop.adopt(theirs.url)
    store = shop.gallery
    assert isinstance(store, AdoptedCollection)
    assert refreshed(shop, range(8)) == 4
    theirs.client.delete(theirs.name, [1])
    assert store.get("1") is None
    theirs_alone = Filter(generations=(store.generation,))
    assert "1" not in {match.item.id for match in store.search(drawn()[1:2], 40, where=theirs_alone)[0]}
    assert "1" not in {match.item.id for match in store.search(drawn(1, 12), 40, where=Filter(generations=(NEW,)))[0]}
    theirs.client.update_vectors(theirs.name, [models.PointVectors(id=3, vector={"image": [1.0] + [0.0] * 7})])
    theirs.client.set_payload(theirs.name, {"class": "other"}, [5])
    theirs.client.delete_vectors(theirs.name, ["image"], [9])
    theirs.client.upsert(
        theirs.name,
        [models.PointStruct(id=99, vector={"image": drawn(1, seed=8)[0].tolist()}, payload={"class": "other"})],
    )
    for found in (store.changes(), shop.adopt()):
        assert (found.rows, found.added.examples, found.changed.examples) == (39, ("99",), ("3", "5"))
        assert (found.gone.examples, found.dropped) == (("1", "9"), 2)
        assert found.unusable["no vector"].examples == ("9",)
    assert not store.changes()
    assert {(version.generation == NEW, version.label) for version in store._held(["5"])["5"]} == {
        (True, "other"),
        (False, "other"),
    }
    assert [version.generation == NEW for version in store._held(["3"])["3"]] == [False]


def test_points_that_come_wait_where_their_vectors_may_not_be_searched(
    theirs: ForeignCollection, shop: Workspace
) -> None:
    shop.adopt(theirs.url)
    store = shop.gallery
    assert isinstance(store, AdoptedCollection)
    for number, (behind, mark) in enumerate((("r1", "r1"), (None, None)), 90):
        theirs.client.upsert(
            theirs.name, [models.PointStruct(id=number, vector={"image": drawn(1, seed=8)[0].tolist()}, payload={})]
        )
        store.reconcile(SILENT, behind=behind, hidden=behind is None)
        ((item,),) = store.waiting()
        assert (item.id, item.superseded) == (str(number), mark)
        store.reconcile(SILENT)
        assert len(list(store.waiting())) == 1
        store.end_waiting([replace(item, embedding=drawn(1, 12)[0], generation=NEW)])
        assert list(store.waiting()) == []
        assert store._held([str(number)])[str(number)][-1].refresh == mark
    assert store.settle("r1", "new") == 1
    assert store.count_by_generation()[NEW] == 2
    assert list(store.waiting()) == []


def test_unnamed_vectors(theirs: ForeignCollection, shop: Workspace) -> None:
    name = f"{theirs.name}_plain"
    theirs.client.create_collection(name, vectors_config=models.VectorParams(size=8, distance=models.Distance.DOT))
    points = [models.PointStruct(id=number, vector=vector) for number, vector in enumerate(drawn().tolist())]
    theirs.client.upsert(name, points)
    try:
        assert shop.adopt(theirs.url.partition("?")[0].replace(theirs.name, name)).rows == 40
        assert shop.search(drawn()[7], k=1, generation="v1")[0].item.id == "7"
        shop.release()
        theirs.client.update_vectors(name, [models.PointVectors(id=3, vector=[2.0] * 8)])
        with pytest.raises(InputError, match="ranks by Dot, and a gallery by the cosine: copy its vectors"):
            shop.adopt(theirs.url.partition("?")[0].replace(theirs.name, name))
    finally:
        theirs.client.delete_collection(name)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("theirs_", "nobodys_"), NotFoundError, "The server has no collection 'nobodys_"),
        (("vector=image", "vector=picture"), InputError, "has no vector 'picture'; it has image, other: name one"),
        (("vector=image&", ""), InputError, "has no vector None; it has image, other: name one with vector=NAME"),
        (("vector=image", "vector=other"), InputError, "ranks by Euclid, and a gallery by the cosine"),
        (("label=", "lable="), InputError, "says lable=, which is not known there"),
        (("metadata=price", "metadata=the%20price"), InputError, "The key 'the price' cannot be metadata"),
    ],
)
def test_what_cannot_be_adopted(
    theirs: ForeignCollection, shop: Workspace, change: tuple[str, str], error: type[Exception], message: str
) -> None:
    before = theirs.everything()
    with pytest.raises(error, match=message):
        shop.adopt(theirs.url.replace(*change, 1))
    assert theirs.everything() == before
    assert shop.generations() == []


def test_one_workspace_at_a_time(theirs: ForeignCollection, shop: Workspace, tmp_path: Path) -> None:
    shop.adopt(theirs.url)
    with Workspace.create(tmp_path / "other", size=16) as other:
        with pytest.raises(RefusedError, match=r"was adopted by the workspace .*shop on "):
            other.adopt(theirs.url)
        with pytest.raises(InputError, match="is a gallery of Evergallery: use it with  evergallery gallery use"):
            other.adopt(theirs.url.partition("?")[0].replace(theirs.name, f"evergallery_{theirs.name}"))

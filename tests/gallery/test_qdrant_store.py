"""Qdrant alone: URLs, formats, precision, what is wrong with points, a server that does not answer."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from plain_items import NEW, OLD, item

from evergallery.errors import DamagedError, InputError, NotFoundError
from evergallery.gallery.qdrant import QdrantStore
from servers import collection


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with collection(monkeypatch) as made:
        yield made


@pytest.fixture
def store(place: str) -> Iterator[QdrantStore]:
    with QdrantStore(place) as opened:
        yield opened


@pytest.mark.parametrize(
    "url", ["qdrant://host", "qdrant://host:6333/a/b", "qdrant:///name", "qdrant://host:port/name"]
)
def test_urls_that_name_no_collection(url: str) -> None:
    with pytest.raises(InputError, match="names no collection of Qdrant: write qdrant://host:6333/COLLECTION"):
        QdrantStore(url)


def test_server_that_does_not_answer() -> None:
    with pytest.raises(NotFoundError, match="qdrant://localhost:1/shop does not answer"):
        QdrantStore("qdrant://localhost:1/shop")


def test_gallery_that_is_not_there(place: str) -> None:
    with pytest.raises(NotFoundError, match="There is no gallery qdrant://"):
        QdrantStore(place, create=False)
    QdrantStore(place).close()
    QdrantStore(place, create=False).close()


def test_precision_is_kept(place: str) -> None:
    with pytest.raises(InputError, match="as float32 or float16, not as int8"):
        QdrantStore(place, precision="int8")
    QdrantStore(place, precision="float16").close()
    with QdrantStore(place) as store:
        assert store.precision == "float16"
    with pytest.raises(InputError, match="keeps vectors as float16, not as float32"):
        QdrantStore(place, precision="float32")


@pytest.mark.parametrize("metadata", [None, {"evergallery": 99, "precision": "float32"}])
def test_collections_that_are_no_gallery_are_refused(store: QdrantStore, metadata: dict[str, Any] | None) -> None:
    store._client.create_collection("foreign", vectors_config={}, metadata=metadata)
    with pytest.raises(DamagedError, match="is no gallery that this version of Evergallery reads"):
        QdrantStore(store.url.rpartition("/")[0] + "/foreign")
    store._client.delete_collection("foreign")


def test_all_versions_of_an_item_are_one_point(store: QdrantStore) -> None:
    store.put([item(1), item(2)])
    store.refresh([item(1, NEW)], "r")
    assert store._client.count(store._collection).count == 2
    store.put([item(1, NEW, label="again")], relabel=True)
    (record,) = store._client.retrieve(
        store._collection, [store._client.scroll(store._collection)[0][0].id], with_vectors=True
    )
    assert isinstance(record.vector, dict)
    assert set(record.vector) <= {OLD, NEW}
    assert len(record.vector) == 1, "the vector of the earlier version is gone"


def test_verify_names_what_is_wrong(store: QdrantStore) -> None:
    store.put([item(number) for number in range(5)])
    found, _ = store._client.scroll(store._collection, with_vectors=True)
    records = {payload["id"]: (record, payload) for record in found if (payload := record.payload) is not None}

    def change(name: str, **payload: Any) -> None:
        record, known = records[name]
        (version,) = known["versions"]
        store._client.set_payload(store._collection, {"id": name, "versions": [version | payload]}, [record.id])

    change("item 1", metadata="{}")
    change("item 2", generation=NEW)
    store._client.set_payload(store._collection, {"id": "item 9"}, [records["item 3"][0].id])
    store._client.delete_payload(store._collection, ["versions"], [records["item 4"][0].id])
    problems = sorted(store.verify())
    assert len(problems) == 4
    assert "In the gallery, the item 'item 9' lies under another id: delete it and index it again." in problems
    assert "In the gallery, the metadata of 'item 1' are not what was stored: delete it and index it again." in problems
    assert (
        "In the gallery, 'item 2' is of a generation whose vectors are not there: delete it and index it again."
        in problems
    )
    assert any(problem.startswith("The gallery holds only a part of 'item 4'") for problem in problems)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns so often that what is not safe among them goes wrong in every run."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_readers_beside_new_generations(store: QdrantStore, frequent_switches: None) -> None:
    # A server answers one call after another; what stands in for it must do so too.
    store.put([item(number) for number in range(20)])
    finished = threading.Event()

    def read() -> None:
        while not finished.is_set():
            assert sum(len(batch) for batch in store.iterate(batch_size=30)) == 20

    with ThreadPoolExecutor(2) as readers:
        reading = [readers.submit(read) for _ in range(2)]
        try:
            for number in range(100):
                store.put([replace(item(0), generation=f"{number:064x}")])
        finally:
            finished.set()
    for future in reading:
        future.result()

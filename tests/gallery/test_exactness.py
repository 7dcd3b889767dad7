"""Whether an answer is exact is for the gallery to say, and everybody who is told hears the same."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from plain_items import item

from evergallery import Workspace
from evergallery.gallery import open_store
from evergallery.serving.app import create_app
from servers import collection


def test_without_an_index_every_answer_is_exact_that_was_asked_to_be(place: str) -> None:
    with closing(open_store(place)) as store:
        assert store.is_exact(False), "there is nothing to search"
        store.put([item(number) for number in range(20)])
        assert store.is_exact(True)
        assert store.is_exact(None)
        # A Qdrant server may answer with an index that it has built by itself.
        assert store.is_exact(False) is not place.startswith("qdrant:")


def test_an_approximate_answer_of_qdrant_says_so_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", ids=np.array([f"item {n}" for n in range(30)]), embeddings=vectors)
    with collection(monkeypatch) as url:
        with Workspace.create(tmp_path / "shop", store=url) as shop:
            shop.import_vectors(tmp_path / "vectors.npz")
        with TestClient(create_app(tmp_path / "shop")) as asking:
            told = {
                exact: asking.post("/api/v1/search", json={"item": "item 3", "exact": exact}).json()["exact"]
                for exact in (True, None, False)
            }
    assert told == {True: True, None: True, False: False}

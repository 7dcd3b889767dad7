"""``verify``: every evaluation set by the command line, by one generation and by a newer one in an older one's vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conftest import as_json, coloured_images, evergallery
from evaluation_toys import TOYS, make_toy
from evergallery import Workspace
from evergallery.data.evaluation_sets import EVALUATION_SETS, EvaluationSet, TemplateSet, evaluation_set
from evergallery.generations.generation import Generation
from evergallery.network import outputs_of
from evergallery.retrieval.width import in_width_of
from evergallery.training import Settings
from evergallery.upgrade.verifying import verify


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two generations, the newer one of fewer dimensions; the sets lie beside."""
    directory = tmp_path_factory.mktemp("verifying")
    for name in TOYS:
        make_toy(name, directory / "sets")
    settings = Settings(epochs=1, batch_size=16, precision="float32", device="cpu", padding=1)
    with Workspace.create(directory / "shop", backbone="resnet8", size=16) as shop:
        shop.learn(coloured_images(3, each=4), settings=settings)
        shop.learn(coloured_images(3, each=4, first=3), settings=settings, dim=12)
        yield shop


@pytest.mark.parametrize("name", EVALUATION_SETS)
def test_alone_and_in_the_vectors_of_an_earlier_one(shop: Workspace, name: str) -> None:
    sets = shop.directory.parent / "sets"
    chosen = evaluation_set(name, sets)
    vectors = {
        generation.name: shop.extract(generation, chosen.images(generation.preprocessing, None), keep=False)
        for generation in shop.generations()
    }
    lengths = {generation.name: lengths_of(chosen, generation) for generation in shop.generations()}
    found = as_json("verify", "v2", "--data", name, "--data-dir", sets, "--against", "v1", "-w", shop.directory)
    assert (found["set"], found["images"]) == (name, len(chosen.entries))
    for test, (asking, stored) in zip(found["figures"], [("v1", "v1"), ("v2", "v2"), ("v2", "v1")], strict=True):
        assert (test.pop("queries"), test.pop("vectors")) == (asking, stored)
        queries = in_width_of(vectors[asking], vectors[stored]) * lengths[asking]
        gallery = vectors[stored] * lengths[stored]
        assert test == pytest.approx(chosen.figures(*map(torch.from_numpy, (queries, gallery))))
    shown = evergallery("verify", "v2", "--data", name, "--data-dir", sets, "-w", shop.directory).stdout
    assert "v2 in v2" in shown
    assert "v1" not in shown


def lengths_of(chosen: EvaluationSet, generation: Generation) -> NDArray[np.float32]:
    """The lengths (N, 1) that a network gives its features, where images count by them; 1 elsewhere."""
    images = chosen.images(generation.preprocessing, None)
    if chosen.name != "ijb-c-weighted":
        return np.ones((len(images), 1), np.float32)
    features = outputs_of(generation.network(), images, generation.preprocessing).features
    lengths: NDArray[np.float32] = features.norm(dim=1, keepdim=True).numpy()
    return lengths


@pytest.mark.parametrize("name", ["ijb-c", "ijb-c-weighted"])
def test_only_where_they_count_by_it_are_images_as_long_as_their_network_makes_them(
    shop: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def figures(self: TemplateSet, query: torch.Tensor, gallery: torch.Tensor) -> dict[str, float]:
        asked.append((query, gallery))
        return {"TAR@FAR 0": 1.0}

    monkeypatch.setattr(TemplateSet, "figures", figures)
    sets = shop.directory.parent / "sets"
    verify(shop.holdings, "v2", name, against="v1", data_dir=sets)
    first, second = (lengths_of(evaluation_set(name, sets), generation) for generation in shop.generations())
    assert (name == "ijb-c") == np.allclose(first, 1, atol=0.01)
    for (query, gallery), wanted in zip(asked, [(first, first), (second, second), (second, first)], strict=True):
        for rows, length in zip((query, gallery), wanted, strict=True):
            assert np.allclose(rows.norm(dim=1, keepdim=True), length, rtol=1e-3)


def test_what_is_not_there_is_said(shop: Workspace, tmp_path: Path) -> None:
    where = ("-w", shop.directory)
    assert "say with --data-dir" in evergallery("verify", "v2", "--data", "lfw", *where, expect=2).stderr
    message = evergallery("verify", "v2", "--data", "lfw", "--data-dir", tmp_path, *where, expect=2).stderr
    assert "lacks pairs.txt" in message
    assert "No evaluation set is called 'lwf'" in evergallery("verify", "v2", "--data", "lwf", *where, expect=2).stderr
    evergallery("verify", "v9", "--data", "lfw", "--data-dir", shop.directory.parent / "sets", *where, expect=3)

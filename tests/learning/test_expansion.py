"""A network that learns beside its root: the oldest vectors are found as they were, whatever came after."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conftest import coloured_images, short
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.methods import L2, DualTuning, Evergreen, Finetune, LwF
from evergallery.retrieval.width import in_width_of
from evergallery.training import Settings

Quick = Callable[..., Settings]
D = 64


def part(first: int) -> ImageSet:
    images = coloured_images(classes=first + 3, each=6)
    return images.of_classes(images.classes[first:])


def begun(directory: Path, quick: Quick) -> Workspace:
    shop = Workspace.create(directory, backbone="resnet8", size=16)
    shop.learn(part(0), settings=quick(epochs=1))
    return shop


@pytest.fixture(scope="module")
def begun_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begun(tmp_path_factory.mktemp("begun") / "shop", short).directory


@pytest.fixture
def shop(begun_once: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(begun_once, tmp_path / "shop"))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def embedded(shop: Workspace, generation: Generation) -> NDArray[np.float32]:
    return shop.extract(generation, part(0))


def test_the_first_part_of_every_update_is_an_embedding_by_the_root(shop: Workspace, quick: Quick) -> None:
    root = shop.generation("v1")
    for number in (2, 3):
        learned = shop.learn(part(3 * number), parent=f"v{number - 1}", settings=quick(epochs=1))
        assert learned.card.dimension == 2 * D, "the size stays however many updates there are"
        np.testing.assert_allclose(unit(embedded(shop, learned)[:, :D]), embedded(shop, root), atol=1e-4)
    parts = [embedded(shop, shop.generation(name))[:, D:] for name in ("v2", "v3")]
    assert not np.allclose(parts[0], parts[1], atol=1e-3), "the second part goes on learning"


def test_new_queries_find_in_the_oldest_vectors_what_the_root_finds(shop: Workspace, quick: Quick) -> None:
    root = embedded(shop, shop.generation("v1"))
    new = embedded(shop, shop.learn(part(3), settings=quick(epochs=1)))
    np.testing.assert_allclose(in_width_of(new, root) @ root.T, root @ root.T, atol=1e-4)


def test_it_may_be_served_alone(shop: Workspace, quick: Quick, tmp_path: Path) -> None:
    beside = shop.learn(part(3), settings=quick(epochs=1))
    other = begun(tmp_path / "other", quick)
    alone = other.learn(part(3), method=Evergreen(expansion=False), settings=quick(epochs=1))
    assert not alone.is_expanded
    np.testing.assert_allclose(unit(embedded(shop, beside)[:, D:]), embedded(other, alone), atol=1e-4)


def test_another_method_that_goes_on_keeps_the_root(shop: Workspace, quick: Quick) -> None:
    shop.learn(part(3), settings=quick(epochs=1))
    # Its coordinates are those of the part that learns.
    learned = shop.learn(part(6), method=L2(), parent="v2", settings=quick(epochs=1))
    assert learned.card.dimension == 2 * D
    np.testing.assert_allclose(unit(embedded(shop, learned)[:, :D]), embedded(shop, shop.generation("v1")), atol=1e-4)


def test_a_network_that_does_not_go_on_has_one_part(shop: Workspace, quick: Quick) -> None:
    shop.learn(part(3), settings=quick(epochs=1))
    assert not shop.learn(part(6), method=Finetune(), from_scratch=True, settings=quick(epochs=1)).is_expanded
    other = shop.learn(part(6), method=DualTuning(), backbone="resnet32", parent="v2", settings=quick(epochs=1))
    assert not other.is_expanded
    with pytest.raises(InputError, match="learns from the scores of its parent's classes"):
        shop.learn(part(6), method=LwF(), backbone="resnet32", parent="v2", settings=quick(epochs=1))


def test_another_backbone_learns_the_space_of_the_root(shop: Workspace, quick: Quick) -> None:
    """Its vectors are compared with the first part of its parent's."""
    far = Evergreen(anchor_weight=0, contrastive_weight=0, prototype_weight=0)
    shop.learn(part(3), method=far, settings=quick(epochs=6, learning_rate=1e-2))
    settings = quick(epochs=12, learning_rate=3e-3, select="last")
    learned = shop.learn(
        part(0), method=Evergreen(anchor_weight=300), backbone="resnet32", parent="v2", settings=settings
    )
    images = part(0)
    new = torch.from_numpy(shop.extract(learned, images))
    root, second = np.split(shop.extract(shop.generation("v2"), images), 2, axis=1)
    cosine = [float((new * torch.from_numpy(unit(half))).sum(1).mean()) for half in (root, second)]
    assert cosine[0] > cosine[1]


def test_doctor_finds_nothing_wrong(shop: Workspace, quick: Quick) -> None:
    learned = shop.learn(part(3), settings=quick(epochs=1))
    assert Generation.load(learned.directory).problems() == []

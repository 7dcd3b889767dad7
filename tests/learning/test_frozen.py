"""A pretrained backbone that stays frozen: what learns, what is kept of its images, and what stays searchable."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from conftest import coloured_images
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.generation import EMBEDDER, Generation
from evergallery.holdings.embedding import extract
from evergallery.memory.scatter import EMPHASES
from evergallery.methods import CSD, METHODS, DualTuning, Evergreen, Finetune, Joint, Mutual
from evergallery.network import Embedder, build_backbone, extraction, features
from evergallery.network.features import AugmentedViews, FeatureCache, backbone_fingerprint
from evergallery.network.ranks import Ranks
from evergallery.network.relatives import unit_features, vectors_between
from evergallery.network.runtimes import part_size
from evergallery.training import Settings
from evergallery.watching import Watcher

TINY = "test_resnet.r160_in1k"
SIZE = 32
Quick = Callable[..., Settings]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for weights that were trained elsewhere."""
    path = tmp_path_factory.mktemp("weights") / "published.safetensors"
    save_file(build_backbone(TINY, seed=5).module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A workspace that begins with them, which no test changes."""
    directory = tmp_path_factory.mktemp("created") / "shop"
    with Workspace.create(directory, backbone=TINY, size=SIZE, weights=weights) as shop:
        return shop.directory


@pytest.fixture
def shop(created: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(created, tmp_path / "shop"))


@pytest.fixture(scope="module")
def learned_once(created: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a second generation, which no test changes."""
    with Workspace(shutil.copytree(created, tmp_path_factory.mktemp("learned") / "shop")) as shop:
        shop.learn(some(0), method=Finetune(), settings={"epochs": 1})
        return shop.directory


def some(first: int, count: int = 4, each: int = 6, seed: int = 0) -> ImageSet:
    images = coloured_images(classes=first + count, each=each, size=SIZE, seed=seed)
    return images.of_classes(images.classes[first:])


def embedder_of(generation: Generation) -> Embedder:
    embedder = generation.embedder()
    assert isinstance(embedder, Embedder)
    return embedder


def test_a_workspace_may_begin_with_a_pretrained_network(shop: Workspace, weights: Path, tmp_path: Path) -> None:
    assert shop.promoted.card.kind == "model"
    other = Workspace.create(tmp_path / "other", backbone=TINY, size=SIZE)
    assert other.register(TINY, weights=weights, size=SIZE).fingerprint == shop.promoted.fingerprint
    begun = Workspace.create(tmp_path / "third", backbone=TINY, size=SIZE).learn(some(0), weights=weights)
    assert begun.preprocessing == shop.promoted.preprocessing


def test_a_file_that_holds_no_weights_leaves_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as weights"):
        Workspace.create(tmp_path / "shop", backbone=TINY, weights=tmp_path / "empty.safetensors")
    assert not (tmp_path / "shop").exists()
    with pytest.raises(InputError, match="leave --dim and --neck out here"):
        Workspace.create(tmp_path / "shop", backbone=TINY, dim=32, weights=tmp_path / "empty.safetensors")


def test_images_are_looked_at_on_the_device_that_learns(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    measured: list[str] = []

    @contextmanager
    def recorded(module: nn.Module, device: torch.device) -> Iterator[None]:
        devices.append(device.type)
        yield

    def looked_at(make: Any, batch: torch.Tensor, preprocessing: Preprocessing, device: torch.device) -> list[Any]:
        assert batch.ndim == 2 or device.type == "cuda"
        return extraction.looked_at(make, batch, preprocessing, torch.device("cpu"))

    def on(device: torch.device, work: Any, *given: torch.Tensor) -> Any:
        measured.append(device.type)
        return work(*given)

    monkeypatch.setattr("evergallery.learning.solving.on", on)
    monkeypatch.setattr("evergallery.learning.learning.join", lambda device: Ranks(device=torch.device("cuda")))
    monkeypatch.setattr(features, "on_device", recorded)
    monkeypatch.setattr("evergallery.learning.inputs.on_device", recorded)
    monkeypatch.setattr(features, "looked_at", looked_at)
    shop.learn(some(0))
    # Features of whole images and of their views, then what is remembered of them.
    assert devices[:2] == ["cuda", "cuda"]
    assert len(devices) > 2
    assert set(devices) == {"cuda"}
    # Scatter of all of them; the trials by which an emphasis is chosen are few.
    assert measured[0] == "cuda"
    assert set(measured[1:]) <= {"cuda", "cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_features_made_on_a_gpu_are_those_of_the_processor(shop: Workspace, tmp_path: Path) -> None:
    first, images = shop.generation("v1"), some(0)
    embedder = embedder_of(first)
    here, _ = FeatureCache(tmp_path / "here", embedder, first.preprocessing).plain(images)
    there, _ = FeatureCache(
        tmp_path / "there", embedder, first.preprocessing, Ranks(device=torch.device("cuda"))
    ).plain(images)
    np.testing.assert_allclose(there, here, rtol=5e-3, atol=5e-3)
    assert embedder.device.type == "cpu", "the backbone came back"


class TestEvergreen:
    def test_the_backbone_stays_and_the_neck_is_solved(self, shop: Workspace) -> None:
        learned = shop.learn(some(0))
        before, after = embedder_of(shop.generation("v1")), embedder_of(learned)
        assert learned.card.architecture is not None
        assert learned.card.architecture.neck == "unit-linear"
        assert learned.card.training["solved"]["emphasis"] in EMPHASES
        for name, tensor in before.backbone.state_dict().items():
            assert torch.equal(tensor, after.backbone.state_dict()[name]), name
        last = after.neck[-1].weight
        assert isinstance(last, torch.Tensor)
        assert not torch.allclose(last, torch.eye(after.dimension), atol=1e-3)

    def test_learning_in_parts_is_learning_at_once(self, shop: Workspace, tmp_path: Path, weights: Path) -> None:
        """No image of the first part is there when the second is learned."""
        method = Evergreen(emphasis=2.0)
        shop.learn(some(0), method=method)
        in_parts = shop.learn(some(4), parent="v2", method=method)
        whole = coloured_images(classes=8, each=6, size=SIZE)
        at_once = Workspace.create(tmp_path / "once", backbone=TINY, size=SIZE, weights=weights).learn(
            whole, method=method
        )
        assert in_parts.card.classes == at_once.card.classes
        first, second = embedder_of(in_parts), embedder_of(at_once)
        torch.testing.assert_close(first.neck[-1].weight, second.neck[-1].weight, rtol=1e-3, atol=1e-3)
        images = torch.rand(5, 3, SIZE, SIZE)
        cosines = (first.eval().embed(images) * second.eval().embed(images)).sum(1)
        assert cosines.min() > 0.9999

    def test_the_trials_of_all_tasks_count_alike(self, shop: Workspace) -> None:
        first, second, third = (
            shop.learn(some(4 * task), parent=f"v{task + 1}").card.training["solved"] for task in range(3)
        )
        assert [scatter["tasks"] for scatter in (first, second, third)] == [1, 2, 3]
        alone = [np.array(scatter["ranks"]) for scatter in (first, second, third)]
        # What the third task says by itself is within what a mean reciprocal rank can be.
        by_itself = 3 * alone[2] - 2 * alone[1]
        assert (by_itself > 0).all()
        assert (by_itself <= 1 + 1e-4).all()
        assert third["emphasis"] == EMPHASES[int(alone[2].argmax())]

    def test_its_head_knows_the_classes(self, shop: Workspace) -> None:
        images = some(0)
        learned = shop.learn(images)
        network = learned.network()
        with torch.no_grad():
            made = network(torch.from_numpy(images.pixels[images.rows]).permute(0, 3, 1, 2) / 255.0)
        assert made.logits.shape == (len(images), 4)
        norms = network.head.weight.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(4))

    def test_it_needs_no_parent_where_published_weights_are_named(self, tmp_path: Path, weights: Path) -> None:
        shop = Workspace.create(tmp_path / "begun", backbone=TINY, size=SIZE)
        first = shop.learn(some(0), weights=weights)
        assert (first.card.method.name, first.card.parent) == ("evergreen", None)
        second = shop.learn(some(4))
        assert "solved" in second.card.training
        assert second.card.settings["train"] == "neck"

    def test_after_another_method_it_learns_by_steps(self, shop: Workspace, quick: Quick) -> None:
        """The space is no longer the features' own, which is what the closed form keeps to."""
        shop.learn(some(0), method=Finetune(), settings={"epochs": 1})
        second = shop.learn(some(4), parent="v2", settings={"epochs": 1})
        assert "solved" not in second.card.training
        assert second.card.training["epochs"] == 1

    def test_a_method_that_solves_nothing_learns_by_steps(
        self, shop: Workspace, quick: Quick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Evergreen, "solve", lambda *_: None)
        learned = shop.learn(some(0), settings=Settings.neck(epochs=1))
        assert "solved" not in learned.card.training
        assert learned.card.training["epochs"] == 1

    def test_all_of_it_may_learn(self, shop: Workspace, quick: Quick) -> None:
        learned = shop.learn(some(0), train="all", settings={"epochs": 1, "batch_size": 8})
        before, after = embedder_of(shop.generation("v1")), learned.network().embedder
        assert learned.card.settings["train"] == "all"
        assert backbone_fingerprint(before, shop.promoted.preprocessing) != backbone_fingerprint(
            after, learned.preprocessing
        )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_learns_from_features(name: str, learned_once: Path, tmp_path: Path) -> None:
    """From the same ones, without the backbone: it runs once for each image and view, and never again."""
    shop = Workspace(shutil.copytree(learned_once, tmp_path / "shop"))
    first = shop.generation("v2")
    method = METHODS[name]()
    cache = FeatureCache(shop.directory / "cache", embedder_of(first), first.preprocessing)
    learned = shop.learn(
        some(4), method=method, parent="v2", old_data=some(0) if method.needs.old_images else None,
        settings={"epochs": 1, "batch_size": 16},
    )  # fmt: skip
    assert learned.card.settings["train"] == "neck"
    assert backbone_fingerprint(embedder_of(learned), learned.preprocessing) == cache.fingerprint
    folders = [path.name for path in (shop.directory / "cache" / "features").iterdir()]
    assert folders == [cache.fingerprint[:16]]
    assert learned.memory().scatter is not None


def test_features_are_made_once(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    make = FeatureCache._features

    def counted(self: FeatureCache, pixels: torch.Tensor) -> np.ndarray:
        looked.append(len(pixels))
        return make(self, pixels)

    monkeypatch.setattr(FeatureCache, "_features", counted)
    images = some(0)
    shop.learn(images, settings={"views": 2})
    assert sum(looked) == len(images) * 3
    shop.learn(images, method=Finetune(), parent="v1", settings={"views": 2, "epochs": 1})
    assert sum(looked) == len(images) * 3
    shop.learn(images, method=Finetune(), parent="v1", settings={"views": 1, "epochs": 1})
    assert sum(looked) == len(images) * 4


def test_views_are_of_the_content(shop: Workspace) -> None:
    """The same in any batch, and not the image itself."""
    images = some(0)
    pixels = images.batch(np.arange(6))
    views = AugmentedViews(2)
    whole = views.of(pixels, images.hashes[:6], 1, SIZE)
    part = views.of(pixels[3:], images.hashes[3:6], 1, SIZE)
    assert (whole[3:].int() - part.int()).abs().max() <= 1
    times = part_size(SIZE) // 6 + 1
    several = views.of(torch.cat([pixels] * times), images.hashes[:6] * times, 1, SIZE)
    assert (several.int() - torch.cat([whole] * times).int()).abs().max() <= 1
    assert (whole.int() - pixels.int()).abs().float().mean() > 1
    assert (whole.int() - views.of(pixels, images.hashes[:6], 2, SIZE).int()).abs().float().mean() > 1


def test_vectors_follow_from_one_another(shop: Workspace) -> None:
    """To and fro between all generations of a backbone, as well as from vectors that were stored in half precision."""
    images = coloured_images(classes=8, each=4, size=SIZE, seed=3)
    generations = [shop.generation("v1"), shop.learn(some(0)), shop.learn(some(4), parent="v2")]
    made = [shop.extract(generation, images, keep=False) for generation in generations]
    for source, stored in zip(generations, made, strict=True):
        for target, wanted in zip(generations, made, strict=True):
            between = vectors_between(
                (embedder_of(source), source.preprocessing), (embedder_of(target), target.preprocessing)
            )
            assert between is not None
            assert (between(stored) * wanted).sum(1).min() > 0.9999
            rounded = stored.astype(np.float16).astype(np.float32)
            assert (between(rounded) * wanted).sum(1).min() > 0.999


@pytest.mark.parametrize(("condition", "error"), [(1, 1e-6), (30, 5e-6), (1000, 5e-6)])
def test_a_neck_is_inverted_as_exactly_as_it_is_stored(shop: Workspace, condition: float, error: float) -> None:
    """In float32 where that is right to the fifth place behind the unit, and otherwise in float64."""
    embedder = embedder_of(shop.learn(some(0)))
    linear = next(layer for layer in embedder.neck if isinstance(layer, nn.Linear))
    width, draw = linear.in_features, torch.Generator().manual_seed(3)
    sides = [torch.linalg.qr(torch.randn(width, width, generator=draw, dtype=torch.float64))[0] for _ in range(2)]
    with torch.no_grad():
        linear.weight.copy_((sides[0] * torch.logspace(0, -np.log10(condition), width, dtype=torch.float64)) @ sides[1])
        linear.bias.zero_()
    features = nn.functional.normalize(torch.rand(200, width, generator=draw, dtype=torch.float64))
    stored = nn.functional.normalize(features @ linear.weight.detach().double().T).float()
    inverse = unit_features(embedder)
    assert inverse is not None
    assert (inverse(stored).double() - features).norm(dim=1).max() < error


def test_other_backbones_have_nothing_to_say(shop: Workspace) -> None:
    other = shop.register(TINY, pretrained=False, seed=9, size=SIZE)
    first = shop.promoted
    assert vectors_between((embedder_of(first), first.preprocessing), (embedder_of(other), other.preprocessing)) is None


class RefreshCounter(Watcher):
    def __init__(self) -> None:
        self.done: list[int] = []

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("refreshing"):
            self.done.append(done)


def test_a_refresh_reads_no_image(shop: Workspace, tmp_path: Path) -> None:
    from PIL import Image

    images = coloured_images(classes=8, each=8, size=SIZE, seed=3)
    for index, row in enumerate(images.rows):
        path = tmp_path / "photos" / images.classes[images.labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[row]).save(path)
    shop.index(tmp_path / "photos")
    shop.learn(some(0))
    wanted = shop.extract(shop.generation("v2"), images, keep=False)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.unlink()
    plan = shop.plan("v2")
    assert (plan.images, plan.missing, plan.sample) == (False, 0, 64)
    told = RefreshCounter()
    with pytest.raises(
        InputError, match="v2 makes its vectors of the stored ones .*: leave the images and the cluster out"
    ):
        shop.refresh("v2", images="/nowhere", cluster="nowhere:1")
    begun = shop.refresh("v2", fraction=0.5, batch=10, watcher=told)
    assert told.done == [0, 10, 20, 30, 32], "stored together are no more than were asked for"
    done = shop.refresh("v2", watcher=told)
    assert told.done[5:] == [32, 64], "nothing but the disk takes time, which is asked as seldom as may be"
    assert (begun.refreshed + done.refreshed, done.remaining, done.problems) == (64, 0, ())
    view = shop.holdings.state.view().after(done.refresh)
    stored = [item for batch in shop.gallery.iterate(view=view) for item in batch]
    assert {item.generation for item in stored} == {shop.generation("v2").fingerprint}
    assert len(stored) == 64
    for item in stored:
        assert item.uri is not None
        assert item.embedding @ wanted[int(Path(item.uri).stem)] > 0.999


def test_items_that_go_while_others_are_mapped_are_left_out(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = coloured_images(classes=8, each=8, size=SIZE, seed=3)
    shop.index(images)
    shop.learn(some(0))
    gone = [item.id for batch in shop.gallery.iterate(with_embeddings=False) for item in batch][:5]

    class DeletingWatcher(Watcher):
        def counted(self, activity: str, done: int, total: int) -> None:
            shop.gallery.delete(gone)

    done = shop.refresh("v2", batch=20, watcher=DeletingWatcher())
    assert (done.refreshed, done.problems) == (59, ())
    view = shop.holdings.state.view().after(done.refresh)
    assert shop.gallery.count_by_generation(view=view) == {shop.generation("v2").fingerprint: 59}


def test_items_of_several_generations_are_mapped_together(shop: Workspace) -> None:
    images = coloured_images(classes=8, each=8, size=SIZE, seed=3)
    shop.learn(some(0))
    shop.index(images.select(np.arange(0, 64, 2)))
    shop.promote("v2", force=True, why="both have vectors")
    shop.index(images.select(np.arange(1, 64, 2)))
    shop.learn(some(1))
    assert len(shop.gallery.count_by_generation()) == 2
    assert shop.refresh("v3").refreshed == 64
    wanted = shop.extract(shop.generation("v3"), images, keep=False)
    row = {content: index for index, content in enumerate(images.hashes)}
    view = shop.holdings.state.view().after("r1")
    for item in (item for batch in shop.gallery.iterate(view=view) for item in batch):
        assert item.content_hash is not None
        assert item.embedding @ wanted[row[item.content_hash]] > 0.999


@pytest.mark.parametrize("method", [Evergreen(), CSD(), Mutual(), Joint()])
def test_what_cannot_be_frozen_is_refused(method: object, tmp_path: Path) -> None:
    shop = Workspace.create(tmp_path / "scratch", backbone="resnet8", size=SIZE)
    with pytest.raises(InputError, match=r"A backbone with new weights has to learn with its neck"):
        shop.learn(some(0), train="neck")


def test_settings_that_cannot_be(shop: Workspace) -> None:
    with pytest.raises(InputError, match=r"--epochs 0 is not usable"):
        shop.learn(some(0), settings={"epochs": 0})
    with pytest.raises(InputError, match=r"--from-scratch begins with new weights"):
        shop.learn(some(0), from_scratch=True, pretrained=True)


def test_another_backbone_learns_from_the_features_of_both(shop: Workspace, tmp_path: Path) -> None:
    """The new network from its own, the parent's opinion from its parent's: both looked at each image once."""
    other = "test_efficientnet.r160_in1k"
    save_file(build_backbone(other, seed=6).module.state_dict(), tmp_path / "other.safetensors")
    learned = shop.learn(
        some(0), method=DualTuning(), backbone=other, weights=tmp_path / "other.safetensors", settings={"epochs": 1}
    )
    assert learned.card.settings["train"] == "neck"
    assert learned.architecture.backbone == other
    made = {path.name for path in (shop.directory / "cache" / "features").iterdir()}
    wanted = {
        backbone_fingerprint(embedder_of(generation), generation.preprocessing)[:16]
        for generation in (shop.generation("v1"), learned)
    }
    assert made == wanted
    assert shop.check("v2", some(0, seed=4), against="v1").pairs[0].evidence.queries == 24


class Lookers(Watcher):
    """Remembers which generations looked at images."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("extracting with "):
            self.heard.add(activity.removeprefix("extracting with "))


def test_a_check_looks_once_for_all_generations_of_a_frozen_backbone(shop: Workspace) -> None:
    learned, both, lookers = shop.learn(some(0)), some(4, each=9), Lookers()
    held_out = both.select(np.arange(0, len(both), 2))
    expected = extract(shop.holdings, learned, held_out, keep=False)
    shop.check("v2", held_out, against="v1", watcher=lookers)
    assert lookers.heard == {"v1"}
    np.testing.assert_allclose(extract(shop.holdings, learned, held_out, lookers), expected, atol=2e-5)
    # More images, of which some are known.
    found = extract(shop.holdings, learned, both, lookers)
    assert lookers.heard == {"v1", "v2"}
    np.testing.assert_allclose(found, extract(shop.holdings, learned, both, keep=False), atol=2e-5)


def test_a_generation_looks_itself_where_another_learned_its_backbone_or_is_damaged(
    shop: Workspace, quick: Quick
) -> None:
    learned, held_out, lookers = shop.learn(some(0)), some(4), Lookers()
    other = shop.learn(some(0), train="all", parent="v1", settings={"epochs": 1, "batch_size": 8})
    for generation in (shop.generation("v1"), other):
        extract(shop.holdings, generation, held_out, lookers)
    assert lookers.heard == {"v1", "v3"}
    (shop.generation("v1").directory / EMBEDDER).write_bytes(b"damaged")
    with Workspace(shop.directory) as again:
        extract(again.holdings, learned, held_out, lookers)
    assert lookers.heard == {"v1", "v2", "v3"}

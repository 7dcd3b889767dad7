"""Learning, an update and a refresh where the features of a frozen backbone are known: no network looks at an image.

The backbone is EfficientNet-Lite0, whose features have 1 280 dimensions. What it would make of the images is drawn at random
around one centre for each class and put into the cache, views and all, since making it is not what is timed here.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as engine
import torch
from safetensors.torch import save_file
from torch import Tensor

from common import record, timed
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.gallery import Item
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.edge.points import new_point
from evergallery.gallery.edge.shard import INDEXED
from evergallery.network import Embedder, build_backbone
from evergallery.network.features import AugmentedViews, FeatureCache

SECONDS = ("seconds", "processor seconds")
BACKBONE, SIDE, WIDTH = "tf_efficientnet_lite0", 16, 1280
TOGETHER = EdgeStore.together


def pictures(first: int, classes: int, each: int, seed: int) -> ImageSet:
    """Random pixels, of which the first two say the class."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    pixels = draw.integers(0, 256, (len(labels), SIDE, SIDE, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = (first + labels) % 256, (first + labels) // 256
    return ImageSet.from_arrays(pixels, labels, [f"class {first + number:04d}" for number in range(classes)])


@contextmanager
def drawn(most_classes: int) -> Iterator[None]:
    """In place of the backbone, features that are drawn around the centre of the image's class."""
    centres = np.random.default_rng(0).normal(size=(most_classes, WIDTH)).astype(np.float32)
    right = FeatureCache._features

    def features(self: FeatureCache, pixels: Tensor) -> Any:
        first = pixels[:, :2, 0, 0].numpy().astype(np.int64)
        labels = np.minimum(first[:, 0] + 256 * first[:, 1], most_classes - 1)
        noise = np.random.default_rng(int(pixels.long().sum())).standard_normal((len(labels), WIDTH), dtype=np.float32)
        return np.maximum(centres[labels] + 2 * noise, 0)

    FeatureCache._features = features  # type: ignore[method-assign]
    try:
        yield
    finally:
        FeatureCache._features = right  # type: ignore[method-assign]


def fill(shop: Workspace, sets: list[ImageSet], views: AugmentedViews) -> None:
    """Put the features of images into the workspace's cache."""
    maker = shop.generation("v1")
    embedder = maker.embedder()
    assert isinstance(embedder, Embedder)
    cache = FeatureCache(shop.directory / "cache", embedder, maker.preprocessing)
    for images in sets:
        cache.part(images, views)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--update", type=int, default=50, help="classes of the update, as many images of each")
    options = parser.parse_args()
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "dimensions": WIDTH}
    many = pictures(0, options.classes, options.each, 1)
    few = pictures(options.classes, options.update, options.each, 2)
    held_out = pictures(0, options.classes + options.update, 2, 3)
    with tempfile.TemporaryDirectory() as name, drawn(options.classes + options.update):
        file = Path(name) / "weights.safetensors"
        save_file(build_backbone(BACKBONE, seed=0).module.state_dict(), file)
        with Workspace.create(Path(name) / "shop", backbone=BACKBONE, size=SIDE, weights=file) as shop:
            fill(shop, [many, few], AugmentedViews())
            found["learning"] = {"images": len(many), **timed(lambda: shop.learn(many))}
            maker = shop.generation("v2")
            vectors = maker_vectors(shop, many)
            stored = Path(name) / "vectors.npz"
            np.savez(stored, embeddings=vectors, ids=np.array([f"item {number}" for number in range(len(vectors))]))
            shop.promote("v2", force=True, why="its vectors are stored")
            shop.import_vectors(stored, into=maker.name)
            found["an update"] = {"images": len(few), **timed(lambda: shop.learn(few))}
            found["its verdict"] = {
                "images": len(held_out), **timed(lambda: shop.check("v3", held_out, against="v2")),
            }  # fmt: skip
            found["an update and its verdict"] = {
                "images": len(few),
                **{name: round(found["an update"][name] + found["its verdict"][name], 2) for name in SECONDS},
            }
            found["a refresh without images, 256 items at a time"] = {
                "items": len(vectors), **timed(lambda: shop.refresh("v3", batch=256)),
            }  # fmt: skip
            shop.discard()
            found["a refresh without images"] = {"items": len(vectors), **timed(lambda: shop.refresh("v3"))}
            stored_items = [item for batch in shop.gallery.iterate(batch_size=TOGETHER) for item in batch]
            found["the bare engine stores as many"] = {
                "items": len(vectors), **timed(lambda: store_barely(stored_items, Path(name) / "bare")),
            }  # fmt: skip
    record("frozen", found, seed=0)


def store_barely(items: Sequence[Item], directory: Path) -> None:
    """Store items in a shard of the bare engine, as many at once as a refresh does, durably."""
    directory.mkdir()
    parameters = engine.EdgeVectorParams(size=WIDTH, distance=engine.Distance.Dot)
    shard = engine.EdgeShard.create(str(directory), engine.EdgeConfig(vectors=parameters))
    for name in INDEXED:
        shard.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
    for start in range(0, len(items), TOGETHER):
        some = items[start : start + TOGETHER]
        points = list(map(new_point, some))
        shard.update(engine.UpdateOperation.upsert_points(points))
        shard.flush()
    shard.close()


def maker_vectors(shop: Workspace, images: ImageSet) -> Any:
    """Vectors of the learned generation from the features that are known."""
    maker = shop.generation("v2")
    embedder, first = maker.embedder(), shop.generation("v1").embedder()
    assert isinstance(embedder, Embedder)
    assert isinstance(first, Embedder)
    cache = FeatureCache(shop.directory / "cache", first, shop.generation("v1").preprocessing)
    features, rows = cache.plain(images)
    made = []
    with torch.inference_mode():
        for start in range(0, len(rows), 4096):
            some = torch.from_numpy(np.asarray(features[rows[start : start + 4096], 0], np.float32))
            made.append(torch.nn.functional.normalize(embedder.neck(some)).numpy())
    return np.concatenate(made)


if __name__ == "__main__":
    main()

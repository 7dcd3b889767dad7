"""Features of images by a frozen backbone, made once and kept: for every generation, method and check that shares it."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evergallery.data.augment import jittered_crop, middle, mirror
from evergallery.data.cache import RowCache
from evergallery.data.features import BackboneFeatures, FeatureSet
from evergallery.data.image_set import ImageSet, as_batch
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.devices.gpu import exact, on_device
from evergallery.files.tensors import hash_tensors
from evergallery.network.embedder import Embedder, FeatureColumns, Network
from evergallery.network.extraction import ALONE, evaluating, in_parts, looked_at
from evergallery.network.ranks import Ranks
from evergallery.network.runtimes import Embed, Pixels

FOLDER = "features"
DRAWS = 8
"""Random numbers of a view: of its crop (4), its colours (3), and whether it is mirrored."""
BATCH = 256
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class AugmentedViews:
    """The number of augmented views of an image that are kept beside the image itself, and their kind.

    Attributes:
        count: V.
        flip: whether half of them are mirrored; wrong for characters and text.
    """

    count: int = 3
    flip: bool = True

    @property
    def recipe(self) -> str:
        """Return what the features are made by, as the name of a directory."""
        return f"{self.count}-views{'' if self.flip else '-unmirrored'}"

    def of(self, images: Tensor, hashes: Sequence[str], number: int, size: Size) -> Tensor:
        """View ``number`` of images (B, 3, S, S) uint8: the same for the same content, whatever the batch.

        A part of 40 to 100 % of the area at the full size, colours changed by up to 20 %, perhaps mirrored.

        Args:
            images: with their margins, where they have some.
            hashes: of their contents.
            number: of the view, from 1.
            size: of the network's input.
        """
        seeds = [[number, *np.frombuffer(bytes.fromhex(content)[:8], np.uint32).tolist()] for content in hashes]
        draws = torch.from_numpy(np.stack([np.random.default_rng(seed).random(DRAWS) for seed in seeds])).float()
        parts = in_parts(images, images.device)
        made = map(partial(self._drawn, size=size), parts, draws.split([len(part) for part in parts]))
        return torch.cat(list(made))

    def _drawn(self, images: Tensor, draws: Tensor, size: Size) -> Tensor:
        """A view of a few images (b, 3, S, S), as (b, 8) draws say: as floats, more would leave the processor's caches."""
        made = jittered_crop(images, draws[:, :7], size=size)
        return mirror(made, draws[:, 7]) if self.flip else made


def backbone_fingerprint(embedder: Embedder, preprocessing: Preprocessing) -> str:
    """SHA-256 of what features depend on: the backbone's weights and name, and what images go through before it."""
    digest = hashlib.sha256(hash_tensors(embedder.backbone.state_dict()).encode())
    digest.update(f"{embedder.architecture.backbone} {preprocessing.to_dict()}".encode())
    return digest.hexdigest()


class FeatureCache:
    """float16 features of one backbone in a workspace's cache, by content of the image.

    A feature is rounded to 11 bits, which moves a unit embedding by some 1e-4 of its length.

    Args:
        directory: of the workspace's cache.
        embedder: its backbone makes them.
        preprocessing: of its input.
        ranks: who share the batches, each on its device; the first one writes, and all have all features then. On CPUs of one
            kind, with as many threads each, they are bit for bit what one process would make in torch.
        runtime: asked, where one process looks at so many images and views on a processor, what does it in place of torch.
    """

    def __init__(
        self,
        directory: Path,
        embedder: Embedder,
        preprocessing: Preprocessing,
        ranks: Ranks = ALONE,
        runtime: Callable[[int], Embed | None] = lambda images: None,
    ) -> None:
        self.embedder = embedder
        self.preprocessing = preprocessing
        self.ranks = ranks
        self.fingerprint = backbone_fingerprint(embedder, preprocessing)
        self.directory = directory / FOLDER / self.fingerprint[:16]
        self._runtime = runtime
        self._run: Embed | None = None

    def plain(
        self, images: ImageSet, on_progress: OnProgress | None = None
    ) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Features (M, 1, W) of whole images, and the row of each of N images."""
        return self._rows("plain", 1, images, lambda pixels, _: [pixels], on_progress)

    def views(
        self, images: ImageSet, views: AugmentedViews, on_progress: OnProgress | None = None
    ) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Features (M, V, W) of augmented views, and the row of each of N images."""

        def make(pixels: Tensor, hashes: Sequence[str]) -> list[Tensor]:
            return [views.of(pixels, hashes, number, self.preprocessing.size) for number in range(1, views.count + 1)]

        return self._rows(views.recipe, views.count, images, make, on_progress)

    def part(self, images: ImageSet, views: AugmentedViews, on_progress: OnProgress | None = None) -> BackboneFeatures:
        """All features of N images."""
        return BackboneFeatures(*self.plain(images, on_progress), *self.views(images, views, on_progress))

    def _rows(
        self,
        name: str,
        count: int,
        images: ImageSet,
        make: Callable[[Tensor, Sequence[str]], list[Tensor]],
        on_progress: OnProgress | None,
    ) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        width = feature_width(self.embedder)
        cache = RowCache(self.directory / name, "features.f16", (count, width), np.float16, "Features")
        if count == 0:
            return np.empty((0, 0, width), np.float16), np.zeros(len(images), np.int64)
        ranks = self.ranks
        # What is missing is for the first rank to say: it may be writing already when another one looks.
        if ranks.agreed(bool((cache.rows(images.hashes) < 0).any())):
            with (
                cache.writing() if ranks.is_first else nullcontext(),
                evaluating(self.embedder),
                on_device(self.embedder.backbone, ranks.device),
            ):
                missing = ranks.agreed(_missing(cache, images))
                self._run = self._runtime(count * len(missing)) if ranks.is_alone_on_a_processor else None
                for start in range(0, len(missing), ranks.size * BATCH):
                    rows = missing[start : start + ranks.size * BATCH]
                    features = np.zeros((len(rows), count, width), np.float32)
                    # A whole batch for each rank, as one process would take it.
                    mine = slice(ranks.rank * BATCH, (ranks.rank + 1) * BATCH)
                    if len(rows[mine]):
                        views = make(images.batch(rows[mine]), [images.hashes[row] for row in rows[mine]])
                        features[mine] = np.stack([self._features(view) for view in views], axis=1)
                    made = ranks.total(torch.from_numpy(features)).numpy()
                    if ranks.is_first:
                        cache.add([images.hashes[row] for row in rows], made.astype(np.float16))
                    if on_progress:
                        on_progress(start + len(rows), len(missing))
            ranks.wait()
        return cache.array(), cache.rows(images.hashes)

    def _features(self, pixels: Tensor) -> NDArray[np.float32]:
        if self._run is not None:
            return self._run(middle(pixels, self.preprocessing).permute(0, 2, 3, 1).contiguous().numpy())
        return _in_torch(self.embedder, pixels, self.preprocessing, self.ranks.device)


def features_in_torch(embedder: Embedder, preprocessing: Preprocessing) -> Embed:
    """Return what makes features (B, W) of decoded images by an embedder's backbone in torch, where that is."""

    def make(pixels: Pixels) -> NDArray[np.float32]:
        with evaluating(embedder):
            return _in_torch(embedder, as_batch(pixels), preprocessing, embedder.device)

    return make


@torch.inference_mode()
def _in_torch(
    embedder: Embedder, images: Tensor, preprocessing: Preprocessing, device: torch.device
) -> NDArray[np.float32]:
    with exact(device):
        parts = looked_at(embedder.backbone, images, preprocessing, device)
        made: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return made


def _missing(cache: RowCache, images: ImageSet) -> NDArray[np.int64]:
    """The images that have no row yet; of the same content twice, one."""
    known = cache.rows(images.hashes)
    return np.array(list({images.hashes[i]: i for i in np.flatnonzero(known < 0)}.values()), np.int64)


def feature_width(embedder: Embedder) -> int:
    """W of the backbone's features."""
    linear = next((layer for layer in embedder.neck if isinstance(layer, nn.Linear)), None)
    return embedder.dimension if linear is None else linear.in_features


def on_features(network: Network, start: int) -> Network:
    """A network with the weights of another one, for features whose columns from ``start`` on are of its backbone."""
    columns = FeatureColumns(start, start + feature_width(network.embedder))
    return Network(network.embedder.with_backbone(columns), network.head)


def feature_set(
    caches: Sequence[FeatureCache], images: ImageSet, views: AugmentedViews, on_progress: OnProgress | None
) -> FeatureSet:
    """N images as features of one backbone or several."""
    return FeatureSet(tuple(cache.part(images, views, on_progress) for cache in caches), images.labels)

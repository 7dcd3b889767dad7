"""The inputs of a run, as its networks take them: images, or the features that frozen backbones made of them once."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import SPLITS
from evergallery.data.tasks import stratified_validation
from evergallery.devices.gpu import on_device
from evergallery.holdings.runtimes import running_backbone
from evergallery.network import Network, Outputs, outputs_of
from evergallery.network.features import (
    AugmentedViews,
    FeatureCache,
    backbone_fingerprint,
    feature_set,
    feature_width,
    on_features,
)
from evergallery.network.ranks import Ranks
from evergallery.strings.names import normal
from evergallery.watching import Watcher


def training_part(images: ImageSet) -> ImageSet:
    """The images that may be learned from: the ``train`` split where there are splits, with ``val`` beside it.

    Classes are those that there are training images of: the others, which are only asked for, would be rows of a head that
    nothing trains.
    """
    if images.split is None:
        return images
    learned = np.unique(images.labels[(images.split == "train") & (images.labels >= 0)])
    may = images.select(np.flatnonzero(np.isin(images.split, ("train", "val"))))
    return may.of_classes([images.classes[label] for label in learned])


def left_out(images: ImageSet) -> str | None:
    """A sentence on images that are not learned from, as their split is none that is known; ``None`` where all are."""
    if images.split is None:
        return None
    counts = Counter(split for split in images.split.tolist() if split not in set(SPLITS.values()))
    named = ", ".join(f"{count} of {repr(name) if name else 'no split'}" for name, count in counts.most_common(5))
    return f"not learned from, for their split is none of {', '.join(SPLITS)}: {named}" if counts else None


def in_two_classes(images: ImageSet) -> str | None:
    """A sentence on pictures that are in several classes; ``None`` where none is."""
    first: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for index, content in enumerate(images.hashes):
        other = first.setdefault(content, index)
        if -1 != images.labels[other] != images.labels[index] != -1:
            found.append((other, index))
    if not found:
        return None
    names = [f"{images.uris[index]} ({images.classes[images.labels[index]]})" for index in found[0]]
    return f"the same picture is in two classes, {len(found)} times, first as {names[0]} and {names[1]}: leave one out"


def relabel(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """Images with labels that index ``classes``, which hold every class of theirs."""
    row = {normal(name): index for index, name in enumerate(classes)}
    labels = np.array([row[normal(name)] for name in images.classes], dtype=np.int64)[images.labels]
    return replace(images, labels=labels, classes=tuple(classes))


def cut_validation(images: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """Training and validation images: by the split ``val`` where there is one, else a stratified cut."""
    if images.split is not None and (images.split == "val").any():
        return images.select(np.flatnonzero(images.split != "val")), images.of_split("val")
    if fraction == 0:
        return images, None
    train_indices, validation_indices = stratified_validation(images.labels, fraction, seed)
    return images.select(train_indices), images.select(validation_indices)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run, as its networks take them: images, or features of frozen backbones.

    Attributes:
        training: labels are rows of the head.
        validation: labels are rows of the head, too; ``None`` where there is no such part.
        images: the training images.
        columns: the first column of each backbone's features, by its fingerprint; empty where images are taken.
    """

    training: ImageSet | FeatureSet
    validation: ImageSet | FeatureSet | None
    images: ImageSet
    columns: Mapping[str, int]

    def fit(self, network: Network, preprocessing: Preprocessing) -> Network:
        """The network as it takes the inputs.

        Raises:
            KeyError: nobody made features by its backbone.
        """
        if not self.columns:
            return network
        return on_features(network, self.columns[backbone_fingerprint(network.embedder, preprocessing)])

    def outputs(
        self,
        network: Network,
        preprocessing: Preprocessing,
        ranks: Ranks,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Outputs:
        """Return what any network makes of the training images, on the ranks' devices; from features where they are known."""
        images: ImageSet | FeatureSet = self.training
        try:
            network = self.fit(network, preprocessing)
        except KeyError:
            images = self.images
        with on_device(network, ranks.device):
            return outputs_of(network, images, preprocessing, on_progress=on_progress, ranks=ranks)


class Features:
    """The features that the frozen backbones of networks make of images, each looked at once.

    Args:
        directory: of the workspace, whose cache keeps them.
        networks: with their preprocessing.
        views: of each image that are looked at.
        watcher: hears of progress.
        ranks: who look at them, and share the batches.
    """

    def __init__(
        self,
        directory: Path,
        networks: Sequence[tuple[Network, Preprocessing]],
        views: AugmentedViews,
        watcher: Watcher,
        ranks: Ranks,
    ) -> None:
        opened = [
            FeatureCache(
                directory / "cache", network.embedder, preprocessing, ranks,
                partial(running_backbone, directory, network.embedder, preprocessing, watcher=watcher),
            )
            for network, preprocessing in networks
        ]  # fmt: skip
        self._caches = {features.fingerprint: features for features in opened}
        self._views, self._watcher = views, watcher

    @property
    def columns(self) -> dict[str, int]:
        """The first column of each backbone's features, by its fingerprint."""
        widths = [feature_width(features.embedder) for features in self._caches.values()]
        return dict(zip(self._caches, accumulate([0, *widths[:-1]]), strict=True))

    def of(self, images: ImageSet) -> FeatureSet:
        """The features of some images."""

        def count(done: int, total: int) -> None:
            self._watcher.counted("looking at the images once", done, total)

        return feature_set(list(self._caches.values()), images, self._views, count)

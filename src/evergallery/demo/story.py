"""The whole story on generated or own images: learn, index, learn new categories, search the old vectors."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry
from evergallery.data.tasks import halves, train_and_test
from evergallery.demo.page import write_demo_page
from evergallery.demo.result import DemoResult, DemoRow
from evergallery.errors import InputError
from evergallery.evaluation import Protocol, measure
from evergallery.files import write_json
from evergallery.generations.generation import Generation
from evergallery.holdings.images import ImageReader
from evergallery.methods import CSD, Evergreen, Finetune, Joint, Method
from evergallery.report.page import require_plots
from evergallery.retrieval.width import in_width_of
from evergallery.training import Settings
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

MARKER = "demo.json"
PAGE = "demo.html"
GLYPH_CLASSES = 200
SIZE = 24
MINIMUM_PER_CLASS = 4
TEST_SHARE = 0.3
UPDATES: tuple[tuple[str, Method, str], ...] = (
    ("v2 fine-tuned", Finetune(), "v2 learns the other classes by fine-tuning"),
    ("v3 CSD", CSD(), "v3 learns the other classes by CSD"),
    ("v4 evergreen", Evergreen(), "v4 learns the other classes by evergreen"),
)


def run_demo(
    directory: Path,
    data: str,
    *,
    data_dir: Path | None = None,
    limit: int = 12_000,
    seed: int = 0,
    watcher: Watcher,
) -> DemoResult:
    """Build a workspace in ``directory`` and show what happens when new categories arrive.

    Half of the classes are learned and indexed as v1. The other half arrives: v2 is fine-tuned, v3 learns by CSD and
    v4 by evergreen, all from v1 and from the new images alone; v5 is trained from scratch on everything, to show what
    that would cost.
    Held-out images of old and new classes lie in the gallery as vectors of v1, which nobody touches.

    Raises:
        InputError: ``directory`` holds something else, or the images do not make two tasks.
        MissingExtraError: the extra ``report`` is not installed.
    """
    require_plots("The demo")
    _require_demo(directory)
    images = _read(data, data_dir, watcher)
    skipped = images.skipped
    images, remarks = _prepare(images, limit, seed)
    if directory.exists():
        shutil.rmtree(directory)
    workspace = Workspace.create(directory, size=SIZE)
    write_json(directory / MARKER, {"data": data, "limit": limit, "seed": seed})
    with workspace:
        train, test = images.of_split("train"), images.of_split("test")
        old_classes, new_classes = halves(images.classes, seed)
        watcher.said(f"v1 learns {len(old_classes)} of {len(images.classes)} classes")
        learned = _Images(train.of_classes(old_classes), train.of_classes(new_classes), test)
        made = _generations(workspace, learned, _settings(data, seed), watcher)
        everything = np.arange(len(test))
        held_out = Protocol(test, everything, everything, "every held-out image among the others")
        stored = _stored_vectors(workspace, test)
        embeddings = {generation.name: workspace.extract(generation, test, watcher) for generation in made.values()}
        test_set = _TestSet(held_out, stored, old_classes)
        contenders = [
            test_set.row(title, generation, embeddings[generation.name]) for title, generation in made.items()
        ]
        comparison = workspace.check("v4", test, against="v1", watcher=watcher)
    result = DemoResult(
        title="Recall@1 in %, queries by each generation: self = in vectors of its own, cross = in the stored vectors of v1",
        contenders=contenders,
        findings=[*_findings(contenders, len(test)), f"The check of v4 against v1 says: {comparison.verdict}"],
        foot=(
            f"{len(images.classes)} classes, {len(train)} training and {len(test)} held-out images of {SIZE}×{SIZE}; "
            f"{held_out.description}; old and new classes within their own galleries, all pooled; one seed ({seed}). {remarks}"
        ).strip(),
        skipped=skipped,
        page=directory / PAGE,
    )
    write_demo_page(result, held_out, stored, embeddings, old_classes)
    write_json(directory / MARKER, result.to_dict())
    return result


@dataclass(frozen=True)
class _Images:
    """The images of the story.

    Attributes:
        old: of the classes that v1 learns.
        new: of the classes that arrive later.
        test: held-out ones of all classes.
    """

    old: ImageSet
    new: ImageSet
    test: ImageSet


def _generations(
    workspace: Workspace, images: _Images, settings: tuple[Settings, Settings], watcher: Watcher
) -> dict[str, Generation]:
    """Learn v1 to v5, each by its title; the gallery is made of the held-out images by v1.

    Args:
        workspace: that is filled.
        images: to learn from, and to store.
        settings: of a first generation, and of an update.
        watcher: hears of progress.
    """
    first, update = settings
    made = {"v1 untouched": workspace.learn(images.old, settings=first, watcher=watcher)}
    watcher.said("the gallery: held-out images of all classes, as vectors of v1")
    workspace.index(images.test, watcher=watcher)
    for title, method, told in UPDATES:
        watcher.said(told)
        made[title] = workspace.learn(images.new, method=method, parent="v1", settings=update, watcher=watcher)
    watcher.said("v5 learns everything from scratch: what an update costs today")
    made["v5 joint"] = workspace.learn(
        images.new, method=Joint(), parent="v1", old_data=images.old, settings=first, watcher=watcher
    )
    return made


def _settings(data: str, seed: int) -> tuple[Settings, Settings]:
    """The settings of a first generation, and of an update."""
    # Characters must not be mirrored; photographs may.
    settings: dict[str, Any] = {
        "flip": data != "glyphs",
        "images_per_class": 4,
        "padding": 3,
        "batch_size": 64,
        "init_seed": seed,
        "data_seed": seed,
        "validation_seed": seed,
    }
    return Settings(epochs=12, **settings), Settings.update(epochs=6, **settings)


@dataclass(frozen=True)
class _TestSet:
    """The held-out images (N), their stored vectors (N, D) by v1, and the classes that v1 has learned."""

    held_out: Protocol
    stored: NDArray[np.float32]
    old_classes: Sequence[str]

    def row(self, title: str, generation: Generation, vectors: NDArray[np.float32]) -> DemoRow:
        """A generation on the images by its vectors of them, alone and in the stored ones."""
        query = in_width_of(vectors, self.stored)
        return DemoRow(
            title,
            generation,
            self_test=measure(self.held_out, vectors, vectors, self.old_classes),
            cross_test=measure(self.held_out, query, self.stored, self.old_classes),
            images=generation.card.data["training"],
            seconds=generation.card.training["seconds"],
        )


def _require_demo(directory: Path) -> None:
    """Refuse a directory that holds something other than an earlier demo."""
    if directory.exists() and not (directory / MARKER).is_file():
        raise InputError(f"{directory} exists and was not made by a demo: name another with --workspace.")


def _read(data: str, data_dir: Path | None, watcher: Watcher) -> ImageSet:
    """Images as the demo's generations read them; an earlier demo is left alone until they are known to make a new one."""
    with TemporaryDirectory() as scratch, Workspace.create(Path(scratch) / "reading", size=SIZE) as workspace:
        preprocessing = Preprocessing.from_dict(workspace.holdings.state.preprocessing)
        return ImageReader(workspace.holdings, data_dir, watcher).read(
            data, preprocessing, check_entries=_require_two_tasks
        )


def _require_two_tasks(entries: Sequence[Entry]) -> None:
    """Refuse files of too few classes before one of them is opened."""
    _large_classes(Counter(entry.label for entry in entries if entry.label is not None))


def _large_classes(counts: Mapping[str, int]) -> list[str]:
    """The classes that have enough images.

    Raises:
        InputError: they do not make two tasks.
    """
    large = [name for name, count in counts.items() if count >= MINIMUM_PER_CLASS]
    if len(large) < MINIMUM_PER_CLASS:
        raise InputError(
            f"Only {len(large)} classes have {MINIMUM_PER_CLASS} images or more: two tasks need at least "
            f"{MINIMUM_PER_CLASS} such classes."
        )
    return large


def _prepare(images: ImageSet, limit: int, seed: int) -> tuple[ImageSet, str]:
    """Splits ``train`` and ``test``, classes large enough, at most ``limit`` images; and what was left out."""
    remarks = []
    if images.split is not None and not {"train", "test"} <= set(images.split.tolist()):
        images = replace(images, split=None)
    counts = np.bincount(images.labels, minlength=len(images.classes))
    large = _large_classes(dict(zip(images.classes, counts.tolist(), strict=True)))
    if len(large) < len(images.classes):
        remarks.append(f"{len(images.classes) - len(large)} classes of fewer than {MINIMUM_PER_CLASS} images left out.")
        images = images.of_classes(large)
    if images.split is None:
        images = replace(images, split=train_and_test(images.labels, TEST_SHARE, seed))
        remarks.append(f"{100 * TEST_SHARE:.0f} % of each class held out.")
    if len(images) > limit:
        remarks.append(f"{limit} of {len(images)} images used (--limit).")
        order = np.random.default_rng(seed).permutation(len(images))
        images = images.select(np.sort(_first_of_each_class(images.labels[order], order, limit)))
    assert images.split is not None, "they were split above where their source had not"
    images = images.select(np.flatnonzero(np.isin(images.split, ("train", "test"))))
    return images, " ".join(remarks)


def _first_of_each_class(labels: NDArray[np.int64], order: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """``limit`` of the images in ``order``, as many of every class as can be."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return order[np.argsort(rank, kind="stable")[:limit]]


def _stored_vectors(workspace: Workspace, images: ImageSet) -> NDArray[np.float32]:
    """The gallery's own vectors (N, D) of N images."""
    vectors = {item.content_hash: item.embedding for batch in workspace.gallery.iterate() for item in batch}
    return np.stack([vectors[content] for content in images.hashes])


def _findings(contenders: Sequence[DemoRow], gallery: int) -> list[str]:
    """Return what the table says, in sentences that depend on it."""
    initial, finetuned, csd, evergreen, joint = contenders

    def change(contender: DemoRow, test: str, group: str) -> str:
        return f"{contender.recall(test, group) - initial.recall(test, group):+.1f}"

    forgotten = finetuned.recall("self", "old") < initial.recall("self", "old")
    gain = evergreen.recall("cross", "all") - finetuned.recall("cross", "all")
    sentences = [
        f"Old classes, searched in vectors of their own generation: fine-tuning changes recall@1 by "
        f"{change(finetuned, 'self', 'old')} points, CSD by {change(csd, 'self', 'old')}, evergreen by "
        f"{change(evergreen, 'self', 'old')}, none with an old image."
        + ("" if forgotten else " Fine-tuning forgot nothing here, so there was nothing to repair."),
        f"New classes: CSD changes recall@1 by {change(csd, 'self', 'new')} points over v1, which had never seen them, "
        f"evergreen by {change(evergreen, 'self', 'new')}.",
    ]
    if gain > 0:
        sentences.append(
            f"New queries in the {gallery} old vectors: evergreen {evergreen.recall('cross', 'all'):.1f} %, CSD "
            f"{csd.recall('cross', 'all'):.1f} %, fine-tuning {finetuned.recall('cross', 'all'):.1f} %, where queries by v1 "
            f"itself find {initial.recall('cross', 'all'):.1f} %; nothing was extracted again."
        )
    else:
        sentences.append(
            f"No effect here: queries by evergreen find {-gain:.1f} points less in the old vectors than queries by "
            f"fine-tuning."
        )
    sentences.append(
        f"Training on everything reaches {joint.recall('self', 'all'):.1f} % on all classes, with {joint.images} images and "
        f"{joint.seconds:.0f} s instead of {evergreen.images} and {evergreen.seconds:.0f} s, and all {gallery} vectors to be "
        f"extracted again: in the old ones its queries find {joint.recall('cross', 'all'):.1f} %."
    )
    return sentences

"""A pretrained network whose gallery is never extracted again: what the updates learn, and what they find in untouched vectors.

The way of a user, with default settings: a workspace that begins with the published network, then ``learn`` task after task. No
update sees an image of an earlier task, but for ``joint``. Images of the classes that the recipe was developed on are left out
(``photographs_classes.json``).

    python benchmarks/photographs.py grocery FOLDER           FOLDER/train/CLASS/*, FOLDER/test/CLASS/*
    python benchmarks/photographs.py cifar100 FILE.npz        images, labels, names, split
    python benchmarks/photographs.py omniglot FILE.npz        likewise, its split into alphabets

The classes of Omniglot's evaluation alphabets are learned from the drawings of fourteen drawers, and searched by those of the
other six. Drawn characters are far from what the network was trained on.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from common import DOCS, RESULTS, paired_on, record, recorded, wrapped, write_between
from common import table as markdown
from evergallery import Workspace
from evergallery.adapters.procrustes import fit_procrustes
from evergallery.benchmark.differences import Difference
from evergallery.benchmark.protocol import is_reported
from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import at_most_per_class, equal_groups
from evergallery.methods import METHODS
from evergallery.retrieval.bootstrap import bootstrap_interval
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.width import in_width_of
from evergallery.training import TrainedPart

RESULT, LONG = "photographs_grocery_2", "photographs_cifar100_9"
BACKBONE = "tf_efficientnet_lite0"
Hits = NDArray[np.bool_]
Vectors = NDArray[np.float32]


def hits(queries: Vectors, gallery: Vectors, labels: NDArray[np.int64]) -> Hits:
    """(N,) whether the nearest of the other N - 1 held-out images is of a query's class."""
    itself = Exclusion(torch.arange(len(labels)))
    found = nearest(torch.from_numpy(queries), torch.from_numpy(gallery), 1, exclusion=itself).indices[:, 0].numpy()
    return np.asarray(labels[found] == labels)


ADAPTED = "+procrustes"
"""After a method's name: its vectors are turned towards those of the generation before, by the images that it learned from."""


def waits(method: str) -> bool:
    """Whether a method begins with the second update: the published network knows no class, and has no image, that it needs."""
    needs = METHODS[method.removesuffix(ADAPTED)].needs
    return needs.old_images or needs.old_head == "needed"


def run(
    method: str,
    train: ImageSet,
    test: ImageSet,
    tasks: Sequence[Sequence[str]],
    seed: int,
    size: int,
    cache: Path,
    backbone: str = BACKBONE,
    trained: TrainedPart = "neck",
) -> dict[str, Any]:
    """One life: the published network, then a generation for each task."""
    chosen = METHODS[method.removesuffix(ADAPTED)]()
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace.create(Path(folder) / "shop", backbone=backbone, size=size, pretrained=True) as shop,
    ):
        link_cache(shop, cache)
        generations = [shop.generation("v1")]
        verdicts = []
        for number, task in enumerate(tasks):
            before = [name for part in tasks[:number] for name in part]
            old = train.of_classes(before) if chosen.needs.old_images and before else None
            generations.append(
                shop.learn(
                    train.of_classes(task),
                    method=METHODS["finetune"]() if number == 0 and waits(method) else chosen,
                    parent=generations[-1].name,
                    old_data=old,
                    train=None if trained == "neck" else trained,
                    settings={"init_seed": seed, "data_seed": seed, "validation_seed": seed},
                )
            )
            verdicts.append(shop.check(generations[-1].name, test).pairs[0].verdict)
        made = [shop.extract(generation, test) for generation in generations]
        pairs = [[shop.extract(generation, train.of_classes(task)) for generation in generations] for task in tasks]
        seconds = [generation.card.training.get("seconds") for generation in generations[1:]]

    def asked(query: int, gallery: int) -> Vectors:
        """The held-out images as queries of one generation in vectors of another."""
        if not method.endswith(ADAPTED) or query == gallery:
            return in_width_of(made[query], made[gallery])
        new, old = (torch.from_numpy(pairs[query - 1][place]) for place in (query, gallery))
        return np.asarray(fit_procrustes(new, old)(torch.from_numpy(made[query])))

    found = {(q, g): hits(asked(q, g), made[g], test.labels) for q in range(len(made)) for g in range(q + 1)}
    last = len(made) - 1
    first_task = np.isin(test.labels, [test.classes.index(name) for name in tasks[0]])
    everything = np.ones(len(test), bool)

    def share(pair: tuple[int, int], of: Hits = everything) -> float:
        return round(100 * float(found[pair][of].mean()), 2)

    def change(pair: tuple[int, int], to: tuple[int, int], of: Hits = everything) -> list[float]:
        difference = torch.from_numpy(found[pair][of].astype(np.float64) - found[to][of].astype(np.float64))
        interval = bootstrap_interval(difference)
        return [round(100 * value, 2) for value in (interval.mean, interval.low, interval.high)]

    return {
        "seconds": seconds,
        "verdicts": verdicts,
        "figures": {
            "untouched, all": share((0, 0)),
            "v2, learned classes": share((1, 1), first_task),
            "untouched, the same": share((0, 0), first_task),
            "v2, all": share((1, 1)),
            "v2 in untouched vectors, all": share((1, 0)),
            "last, all": share((last, last)),
            "last in untouched vectors, all": share((last, 0)),
            "last in v2's vectors, all": share((last, 1)),
            "last in v2's vectors, v2's classes": share((last, 1), first_task),
            "v2 in its own, its classes": share((1, 1), first_task),
        },
        "changes": {
            "last - untouched, all": change((last, last), (0, 0)),
            "last in untouched vectors - untouched, all": change((last, 0), (0, 0)),
            "last in v2's vectors - v2, all": change((last, 1), (1, 1)),
            "last in v2's vectors - v2, its classes": change((last, 1), (1, 1), first_task),
        },
    }


def link_cache(shop: Workspace, cache: Path) -> None:
    """Features are the same in every life: they are made once for all of them."""
    (shop.directory / "cache").rmdir()
    (shop.directory / "cache").symlink_to(cache.resolve(), target_is_directory=True)


def drawers_apart(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """The evaluation alphabets' drawings of each character: fourteen to learn from, six to search by."""
    images = images.of_split("evaluation")
    images = images.of_classes([images.classes[label] for label in np.unique(images.labels)])
    place = np.empty(len(images), int)
    for label in range(len(images.classes)):
        of = np.flatnonzero(images.labels == label)
        place[of] = np.arange(len(of))
    return images.select(np.flatnonzero(place < 14)), images.select(np.flatnonzero(place >= 14))


def read(
    name: str, path: Path, size: int, each: int, held_out: int, backbone: str = BACKBONE
) -> tuple[ImageSet, ImageSet]:
    """Training and held-out images of the classes that were not developed on."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Workspace.create(Path(folder) / "shop", backbone=backbone, size=size)
        images = shop.read(str(path))
        images = images.of_classes([label for label in images.classes if is_reported(name, label)])
        train, test = (
            drawers_apart(images) if name == "omniglot" else (images.of_split("train"), images.of_split("test"))
        )
        train = train.select(at_most_per_class(train.labels, each, 0))
        # Many pictures of one shelf are alike: with all of them, any network finds one.
        test = test.select(at_most_per_class(test.labels, held_out, 0))
        # Out of the cache of a workspace that goes away.
        pixels = [np.array(part.pixels[part.rows]) for part in (train, test)]
    return tuple(
        ImageSet(pixel, np.arange(len(part)), part.labels, part.classes, part.uris, part.hashes)
        for pixel, part in zip(pixels, (train, test), strict=True)
    )  # type: ignore[return-value]


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Mean and standard deviation over the seeds."""
    names = runs[0]["figures"]
    spread: Callable[[list[float]], float] = lambda values: statistics.stdev(values) if len(values) > 1 else 0.0  # noqa: E731
    return {
        name: [
            round(statistics.mean(run["figures"][name] for run in runs), 1),
            round(spread([run["figures"][name] for run in runs]), 1),
        ]
        for name in names
    }


COLUMNS = {
    "self, its classes": "v2, learned classes",
    "self, all": "v2, all",
    "in v1's, all": "v2 in untouched vectors, all",
    "self, all ": "last, all",
    "in v1's, all ": "last in untouched vectors, all",
    "in v2's, its classes": "last in v2's vectors, v2's classes",
}
"""Headings of the table by name of the figure; the first three of v2, the others of v3."""
README = Path(__file__).parents[1] / "README.md"
PAGE = DOCS / "pretrained.md"
CARD = DOCS / "methods" / "evergreen.md"
SHORT = ("evergreen", "finetune", "csd", "mutual", "dual-tuning", "joint")
"""The front page's choice: what is usual, the three papers, and the bound."""
SETS = {
    "grocery": "Grocery photographs",
    "cifar100": "CIFAR-100, enlarged, in a split of this project's own",
    "omniglot": "Omniglot's drawn characters of evaluation alphabets, fourteen drawers to learn from and six to search by",
}
LOOKED_AT = {
    "grocery": ", but two decisions on it were taken after a look at these ([card](CARD#frozen-backbones))",
}
"""What was decided after a look at the classes of a set that are reported."""
NETWORKS = {"tf_efficientnet_lite0": "EfficientNet-Lite0", "tf_efficientnet_lite1": "EfficientNet-Lite1"}


def table(result: dict[str, Any], methods: Sequence[str] | None = None) -> str:
    """What the updates give, in Markdown: recall@1 in % with its standard deviation over the seeds."""
    heads = [f"v2 {name}" for name in list(COLUMNS)[:3]] + [f"v3 {name}".strip() for name in list(COLUMNS)[3:]]
    first = next(iter(result["summary"].values()))
    untouched, its_classes = first["untouched, all"][0], " ± ".join(map(str, first["untouched, the same"]))
    rows = [
        "| `learn` by | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(heads),
        f"| v1, not updated | {its_classes} | {untouched} | {untouched} | {untouched} | {untouched} | – |",
    ]
    for method in methods or result["summary"]:
        figures = result["summary"][method]
        cells = [
            "–" if empty(method, name) else f"{figures[name][0]} ± {figures[name][1]}" for name in COLUMNS.values()
        ]
        name = f"**{method}**" if method == "evergreen" else method
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    data = result["data"]
    return "\n".join(rows) + (
        f"\n\n{SETS[data['set']]}: {data['classes']} classes in two halves, {data['training']} training and "
        f"{data['held out']} held-out images, each a query to the others;\n"
        f"{NETWORKS[result['backbone']]} at {result['size']} pixels, {result['seeds']} "
        "class orders. `joint` had the images of both halves, the others those of the\nsecond alone."
        f"{waiting(methods or result['summary'])} Classes that the recipe "
        f"was developed on are left out{LOOKED_AT.get(data['set'], '')}. {verdicts(result)}"
    )


def empty(method: str, figure: str) -> bool:
    """Whether a figure is of fine-tuning, with which a method begins, and so not the method's own."""
    return waits(method) and figure.startswith("v2")


def waiting(methods: Iterable[str]) -> str:
    """A sentence on the methods that begin with the second update, after a space; empty where none does."""
    found = [f"`{method}`" for method in methods if waits(method)]
    if not found:
        return ""
    return (
        f" What {' and '.join(found)} need{'s' * (len(found) == 1)} of an old generation the published network has not, so that "
        "the first update is fine-tuning's and these cells are empty."
    )


def verdicts(result: dict[str, Any]) -> str:
    """What ``check`` says of evergreen's generations in vectors of their parent, in a sentence."""
    said = Counter(word for life in result["runs"]["evergreen"] for word in life["verdicts"])
    return f"What `check` says of evergreen's {sum(said.values())} updates: " + (
        ", ".join(f"{count} × {word}" for word, count in said.most_common()) + "."
    )


def differences(result: dict[str, Any]) -> str:
    """Evergreen minus each other method, paired over the class orders, in Markdown: with half of the 95 % interval."""
    names = list(COLUMNS.values())

    def cell(method: str, name: str) -> str:
        if empty(method, name):
            return "–"
        apart = [
            ours["figures"][name] - theirs["figures"][name]
            for ours, theirs in zip(result["runs"]["evergreen"], result["runs"][method], strict=True)
        ]
        return Difference.of(apart).text()

    heads = [f"v2 {name}" for name in list(COLUMNS)[:3]] + [f"v3 {name}".strip() for name in list(COLUMNS)[3:]]
    others = [method for method in result["summary"] if method != "evergreen"]
    found = markdown(
        ("evergreen minus", *heads), [(method, *(cell(method, name) for name in names)) for method in others]
    )
    return f"{paired_on('class order')}\n\n{found}"


def others() -> list[str]:
    """The committed results of two tasks on other images, or of another network."""
    found = sorted(path.stem for path in RESULTS.glob("photographs_*_2*.json"))
    return [name for name in found if name != RESULT]


def pages() -> dict[tuple[Path, str], str]:
    """What stands between which marks of which page."""
    grocery = recorded(RESULT)
    texts = {
        (README, "photographs"): table(grocery, SHORT),
        (PAGE, "photographs"): f"{table(grocery)}\n\n{differences(grocery)}",
        (PAGE, "long life"): long_life(recorded(LONG)),
        (PAGE, "other photographs"): "\n\n".join(
            f"{table(found)}\n\n{differences(found)}" for found in map(recorded, others())
        ),
    }
    return {
        (page, name): wrapped(text.replace("CARD", os.path.relpath(CARD, page.parent)))
        for (page, name), text in texts.items()
    }


FIRST = "last in v2's vectors, all"


def long_life(result: dict[str, Any]) -> str:
    """What many small updates leave, in a sentence."""
    figures, data = result["summary"]["evergreen"], result["data"]
    untouched = figures["untouched, all"][0]

    def of(name: str) -> str:
        return f"{figures[name][0]} ± {figures[name][1]}"

    return (
        f"{result['tasks']} tasks of five or six of {data['classes']} classes of CIFAR-100, enlarged to {result['size']} pixels "
        f"({data['training']} training\nand {data['held out']} held-out images, a split of this project's own; "
        f"{result['seeds']} class orders). Recall@1 in % on all classes: the\npublished network {untouched}; after the first "
        f"task {of('v2, all')}; after the last {of('last, all')} in vectors of its own,\n"
        f"{of('last in untouched vectors, all')} in the published network's, and {of(FIRST)} in those of the first task's "
        "generation."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["grocery", "cifar100", "omniglot"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pages", action="store_true", help="Only write the committed result into the pages.")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--each", type=int, default=60, help="Training images of a class, at most.")
    parser.add_argument("--held-out", type=int, default=12, help="Held-out images of a class, at most.")
    parser.add_argument("--cache", type=Path, help="Keeps features from one call to the next.")
    parser.add_argument("--methods", default="evergreen,finetune,l2,joint")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--train", choices=get_args(TrainedPart), default="neck", help="What learns.")
    given = parser.parse_args()
    if given.pages:
        for (page, name), text in pages().items():
            write_between(page, name, text)
        return
    if not given.data.exists():
        sys.exit(f"There is no {given.data}: name the images.")
    train, test = read(given.set, given.data, given.size, given.each, given.held_out)
    cache = given.cache or Path(tempfile.mkdtemp())
    cache.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(given.seeds):
        tasks = equal_groups(train.classes, given.tasks, seed)
        for method in given.methods.split(","):
            life = run(method, train, test, tasks, seed, given.size, cache, given.backbone, given.train)
            runs.setdefault(method, []).append(life)
            print(method, seed, runs[method][-1]["figures"], file=sys.stderr, flush=True)
    kind = "".join(
        f"_{value}" for value, usual in ((given.backbone, BACKBONE), (given.train, "neck")) if value != usual
    )
    record(
        f"photographs_{given.set}_{given.tasks}{kind}",
        {
            "data": {
                "set": given.set, "classes": len(train.classes), "training": len(train), "held out": len(test),
                "fingerprints": [train.fingerprint(), test.fingerprint()],
            },
            "backbone": given.backbone, "train": given.train, "size": given.size, "tasks": given.tasks, "seeds": given.seeds,
            "summary": {method: summary(of) for method, of in runs.items()},
            "runs": runs,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()

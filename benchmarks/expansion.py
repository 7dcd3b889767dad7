"""A network from scratch that learns beside its root, and what the same training gives when it is served alone.

One life trains both: the part that learns does not see whether the root is served beside it. Images of the classes that were
developed on are left out (``photographs_classes.json``).

    python benchmarks/expansion.py grocery FOLDER             FOLDER/train/CLASS/*, FOLDER/test/CLASS/*
    python benchmarks/expansion.py cifar100 FILE.npz          images, labels, names, split
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import DOCS, record, recorded, table, wrapped, write_between
from evergallery import Workspace
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import equal_groups
from evergallery.methods import Evergreen, Finetune
from evergallery.retrieval.width import in_width_of
from photographs import Vectors, hits, read, summary

PROTOCOL = {"grocery": "mutual-multi-task", "cifar100": "csd-cifar100"}
"""Whose network, size and length of training are taken."""
SETS = {"grocery": "Grocery", "cifar100": "CIFAR-100 (a split of this project's own)"}
PAGE = DOCS / "methods" / "evergreen.md"
WAYS = ("v1, not updated", "the network alone", "beside its root")
PARENTS, ITS_OWN = "in the parent's vectors, its classes", "the parent in its own, the same"
FIGURES = ("v1's classes in v1's vectors", "all classes in v1's vectors", "learned classes, self", "all classes, self")


def run(name: str, train: ImageSet, test: ImageSet, tasks: Sequence[Sequence[str]], seed: int) -> dict[str, Any]:
    """One life from scratch, and recall@1 in % of its last generation, served in each way."""
    protocol = PROTOCOLS[PROTOCOL[name]]
    plan = protocol.plan("standard", seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace.create(Path(folder) / "shop", backbone=protocol.backbone, size=plan.size or 32) as shop,
    ):
        first = shop.learn(train.of_classes(tasks[0]), method=Finetune(), settings=plan.first)
        made, parent = [shop.extract(first, test)], first
        for task in tasks[1:]:
            parent = shop.learn(train.of_classes(task), method=Evergreen(), parent=parent.name, settings=plan.update)
            made.append(shop.extract(parent, test))
    root, width = made[0], made[0].shape[1]
    alone = unit(made[-1][:, width:])
    served = dict(zip(WAYS, (root, alone, made[-1]), strict=True))
    of = {group: np.isin(test.labels, [test.classes.index(name) for name in sum(map(tuple, part), ())])
          for group, part in (("old", tasks[:1]), ("new", tasks[1:]))}  # fmt: skip
    everything = np.ones(len(test), bool)

    def share(queries: Vectors, gallery: Vectors, among: NDArray[np.bool_]) -> float:
        found = hits(in_width_of(queries, gallery), gallery, test.labels)
        return round(100 * float(found[among].mean()), 2)

    figures: dict[str, Any] = {}
    for way, vectors in served.items():
        values = [
            share(vectors, root, of["old"]), share(vectors, root, everything),
            share(vectors, vectors, of["new"]), share(vectors, vectors, everything),
        ]  # fmt: skip
        figures |= {f"{way}: {figure}": value for figure, value in zip(FIGURES, values, strict=True)}
    before = np.isin(test.labels, [test.classes.index(name) for task in tasks[:-1] for name in task])
    if len(tasks) > 2:
        figures[PARENTS] = share(made[-1], made[-2], before)
        figures[ITS_OWN] = share(made[-2], made[-2], before)
    return {"figures": figures}


def unit(vectors: Vectors) -> Vectors:
    """Rows (N, D) at unit length."""
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def page(results: Sequence[dict[str, Any]]) -> str:
    """The table of the method's card, in Markdown."""
    rows = [
        (
            f"{SETS[result['data']['set']]}, {result['tasks']} tasks",
            way,
            *(f"{mean} ± {spread}" for mean, spread in (result["summary"][f"{way}: {figure}"] for figure in FIGURES)),
        )
        for result in results
        for way in WAYS
    ]
    return wrapped("\n\n".join([table(("", "served", *FIGURES), rows), *filter(None, map(later, results))]))


def later(result: dict[str, Any]) -> str:
    """What the last of several updates finds in the vectors of the generation before it, in a sentence."""
    if PARENTS not in result["summary"]:
        return ""
    found, own = ("{} ± {}".format(*result["summary"][name]) for name in (PARENTS, ITS_OWN))
    return (
        f"{SETS[result['data']['set']]}, {result['tasks']} tasks: in its parent's vectors of two parts, on the parent's "
        f"classes, the last generation finds {found}, where the parent finds {own}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(PROTOCOL))
    parser.add_argument("data", type=Path)
    parser.add_argument("--pages", action="store_true", help="Only write the committed results into the method's card.")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, default=60, help="Training images of a class, at most.")
    parser.add_argument("--held-out", type=int, default=12, help="Held-out images of a class, at most.")
    given = parser.parse_args()
    if given.pages:
        write_between(PAGE, "expansion", page([recorded(path.stem) for path in committed()]))
        return
    if not given.data.exists():
        sys.exit(f"There is no {given.data}: name the images.")
    protocol = PROTOCOLS[PROTOCOL[given.set]]
    size = protocol.plan("standard", 0).size or 32
    assert isinstance(size, int)
    train, test = read(given.set, given.data, size, given.each, given.held_out, protocol.backbone)
    runs = []
    for seed in range(given.seeds):
        runs.append(run(given.set, train, test, equal_groups(train.classes, given.tasks, seed), seed))
        print(seed, runs[-1]["figures"], file=sys.stderr, flush=True)
    record(
        f"expansion_{given.set}_{given.tasks}",
        {
            "data": {
                "set": given.set, "classes": len(train.classes), "training": len(train), "held out": len(test),
                "fingerprints": [train.fingerprint(), test.fingerprint()],
            },
            "backbone": protocol.backbone, "size": size, "tasks": given.tasks, "seeds": given.seeds,
            "summary": summary(runs), "runs": runs,
        },
    )  # fmt: skip


def committed() -> list[Path]:
    """The files of results, in the order of the table."""
    return sorted((Path(__file__).parent / "results").glob("expansion_*.json"))


if __name__ == "__main__":
    main()

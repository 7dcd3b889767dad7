"""New queries in old vectors: Evergallery beside other tools, on the same pairs of embeddings of real images and texts.

Every pair of models and data set is measured at several numbers of pairs, drawn from the gallery by several seeds, as somebody
draws them who embeds a part of the gallery again. Queries are images, or texts, that are neither in the gallery nor among the
pairs; recall@1 counts a nearest stored item of the query's class, for texts its own document. Two ways: ``query``, stored vectors
stay as they are, and ``gallery``, they are rewritten.

The kinds and the grid of strengths were settled with pairs of seed 0 on these sets; strengths are chosen by held-out pairs. Of
800 queries a difference of a point or two in one place says little. rebasis' choice is fitted again to all pairs, which the tool
does not do, and its best candidate by the test queries stands beside it, which nobody can know.

The other tools run in an interpreter of their own, ``--python``: rebasis needs Python 3.12. Without the folder of images, or the
interpreter, there is nothing to measure, and it says so.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import apart, record
from evergallery.adapters import fit_bilateral, fit_linear
from evergallery.benchmark.differences import Difference
from evergallery.retrieval.knn import nearest
from features import IMAGES, Case, image_case, text_case

PAIRS = {
    "Lite0, 256-d → Lite1, 256-d": (("lite0", 256), ("lite1", 256)),
    "Lite1, 256-d → Lite2, 512-d": (("lite1", 256), ("lite2", 512)),
    "Lite2, 512-d → Lite0, 256-d": (("lite2", 512), ("lite0", 256)),
}
TEXT = "WordLlama, 256-d → MiniLM, 384-d"
COUNTS = (100, 300, 1000)
CANDIDATES = 100
REWRITING = ("isotrieve ridge, stored", "isotrieve procrustes, stored")
LEAVING = ("embspec", "isotrieve ridge, query", "isotrieve procrustes, query", "rebasis")
TOOLS = (*LEAVING, *REWRITING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help=f"folder with {', '.join(IMAGES.values())}")
    parser.add_argument(
        "--python", type=Path, required=True, help="interpreter that has rebasis, isotrieve and embspec"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for embeddings, pairs and answers, which are kept"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    missing = [
        str(path)
        for path in (options.python, *(options.images / kind for kind in IMAGES.values()))
        if not path.exists()
    ]
    if missing:
        sys.exit(f"Skipped: {', '.join(missing)} is not there. See --help for what is needed.")
    torch.set_num_threads(options.threads)
    cases = {
        f"{data}|{pair}": image_case(options.images, options.work, data, *models)
        for data in IMAGES
        for pair, models in PAIRS.items()
    }
    cases[f"text|{TEXT}"] = text_case(options.work)
    write_cases(cases, options.seeds, options.work)
    worker = subprocess.Popen(
        [
            options.python,
            Path(__file__).with_name("rivals_worker.py"),
            options.work / "cases",
            options.work / "answers",
        ],
        stdout=subprocess.DEVNULL,
    )
    own = {name: ours(case, options.seeds) for name, case in cases.items()}
    if worker.wait():
        sys.exit(f"The other tools stopped with {worker.returncode}.")
    result = {name: compared(name, case, own[name], options) for name, case in cases.items()}
    versions = json.loads((options.work / "answers" / "versions.json").read_text())
    record(
        "rivals",
        {"seeds": options.seeds, "versions": versions, "recall@1 in %": result, **summary(result)},
        options.seeds[0],
    )


def draw(case: Case, count: int, seed: int) -> Tensor:
    """(N,) places of the pairs in the gallery."""
    return torch.randperm(len(case.old_gallery), generator=torch.Generator().manual_seed(seed))[:count]


def write_cases(cases: dict[str, Case], seeds: list[int], work: Path) -> None:
    """What the other tools read."""
    for folder in ("cases", "answers"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        for count in COUNTS:
            for seed in seeds:
                rows = draw(case, count, seed)
                path = work / "cases" / f"{place(name)}-{count}-{seed}.npz"
                if not path.is_file():
                    np.savez(path, new=case.new_gallery[rows].numpy(), old=case.old_gallery[rows].numpy(),
                             queries=case.new_queries.numpy(), stored=case.old_gallery.numpy())  # fmt: skip


def place(name: str) -> str:
    """A name for files."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)


def recall(case: Case, found: Tensor) -> float:
    """In %, of the nearest stored items (Q,)."""
    return 100 * (case.gallery_labels[found] == case.query_labels).double().mean().item()


def ours(case: Case, seeds: list[int]) -> dict[int, dict[str, list[float]]]:
    """By number of pairs, recall of each way for each seed, seconds to fit, and what the search for candidates loses."""
    found: dict[int, dict[str, list[float]]] = {}
    for count in COUNTS:
        rows = found.setdefault(count, defaultdict(list))
        for seed in seeds:
            pairs = draw(case, count, seed)
            new, old = case.new_gallery[pairs], case.old_gallery[pairs]
            start = time.perf_counter()
            adapter = fit_bilateral(new, old)
            rows["seconds to fit, query"].append(time.perf_counter() - start)
            scores = adapter.query_side(case.new_queries) @ adapter.stored_side(case.old_gallery).T
            candidates = nearest(adapter(case.new_queries), case.old_gallery, CANDIDATES).indices
            best = candidates.gather(1, scores.gather(1, candidates).argmax(1, keepdim=True)).flatten()
            rows["evergallery, query"].append(recall(case, best))
            rows["evergallery, query, every vector scored"].append(recall(case, scores.argmax(1)))
            start = time.perf_counter()
            rewritten = fit_linear(old, new, direction="gallery")(case.old_gallery)
            rows["seconds to fit, gallery"].append(time.perf_counter() - start)
            rows["evergallery, gallery"].append(recall(case, nearest(case.new_queries, rewritten, 1).indices[:, 0]))
    return found


def compared(
    name: str, case: Case, own: dict[int, dict[str, list[float]]], options: argparse.Namespace
) -> dict[str, Any]:
    """The table of one pair of models on one data set."""
    table: dict[str, Any] = {
        "queries": len(case.new_queries),
        "gallery": len(case.old_gallery),
        "old model alone": round(recall(case, nearest(case.old_queries, case.old_gallery, 1).indices[:, 0]), 1),
        "full re-index": round(recall(case, nearest(case.new_queries, case.new_gallery, 1).indices[:, 0]), 1),
    }
    for count in COUNTS:
        rows = dict(own[count])
        refused: dict[str, str] = {}
        for seed in options.seeds:
            stem = options.work / "answers" / f"{place(name)}-{count}-{seed}"
            with np.load(stem.with_suffix(".npz")) as answers:
                every = {way: recall(case, torch.from_numpy(answers[way])) for way in answers.files}
            refused |= json.loads(stem.with_suffix(".json").read_text())
            for way in TOOLS:
                if way in every:
                    rows.setdefault(way, []).append(every[way])
            rows.setdefault("rebasis, its best candidate by these queries", []).append(
                max(value for way, value in every.items() if way.startswith("rebasis "))
            )
        table[f"{count} pairs"] = {way: spread(values) for way, values in rows.items()} | {"refused": refused}
    return table


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and every seed."""
    return {"mean": round(statistics.mean(values), 2), "seeds": [round(value, 2) for value in values]}


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Points over the best of the other tools, which differs from place to place: by the way, and where we are behind."""
    against = {
        "query, beside all": ("query", TOOLS),
        "query, beside those that leave stored vectors as they are": ("query", LEAVING),
        "gallery, beside those that rewrite them too": ("gallery", REWRITING),
    }
    behind: dict[str, dict[str, float]] = {name: {} for name in against}
    ahead: dict[str, list[float]] = {name: [] for name in against}
    differences: dict[str, list[Difference]] = {name: [] for name in against}
    for name, table in result.items():
        for count in COUNTS:
            row = table[f"{count} pairs"]
            for compared_with, (way, tools) in against.items():
                best = max((row[tool] for tool in tools if tool in row), key=lambda of: of["mean"])
                own = row[f"evergallery, {way}"]
                points = round(own["mean"] - best["mean"], 2)
                differences[compared_with].append(apart(own, best))
                ahead[compared_with].append(points)
                if points < 0:
                    behind[compared_with][f"{name}, {count} pairs"] = points
    return {
        "points over the best of the others": {
            way: {"mean": round(statistics.mean(points), 2), "least": min(points), "ahead or equal": sum(p >= 0 for p in points),
                  "of": len(points), "behind": behind[way],
                  "shown ahead": sum(one.shown and one.mean > 0 for one in differences[way]),
                  "shown behind": sum(one.shown and one.mean < 0 for one in differences[way])}
            for way, points in ahead.items()
        }
    }  # fmt: skip


if __name__ == "__main__":
    main()

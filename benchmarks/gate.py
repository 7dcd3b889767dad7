"""How often each verdict is given, and what is promoted: models of known worth, offered to the gate many times.

Embeddings are simulated: images of a class lie around its centre, and how far is what makes a model better or worse. Half of what
makes an image hard is the image's own, the same for all models, so that outcomes are paired as they are in practice. Each offer
draws new held-out images, measures them as ``check`` does, and is judged as ``promote`` judges, by the default policy.

Each model is offered in two ways. *Refreshed*: it has coordinates of its own, and the gallery was refreshed completely in the
shadow, so that only the generation alone is left to judge. *Kept*: it has the coordinates of the old one, and would search the
old vectors.
"""

import argparse
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from common import DOCS, record, recorded, table, write_between
from evergallery.data.image_set import ImageSet, hash_pixels
from evergallery.evaluation import Protocol
from evergallery.upgrade.check import PairCheck, check_pair
from evergallery.upgrade.gate import DEFAULT, Gate, Scope
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing
from evergallery.upgrade.verdict import Verdict

GATE = Gate.model_validate(tomllib.loads(DEFAULT))
PAGE = DOCS / "upgrades.md"
CLASSES, DIMENSIONS = 30, 16
OLD_NOISE = 0.95
MODELS: dict[str, float | None] = {
    "random": None,
    "worse": 1.03,
    "slightly worse": 0.965,
    "equal": 0.95,
    "slightly better": 0.94,
    "much better": 0.75,
}
"""Noise around the class centres by model; ``None`` for vectors that have nothing to do with the image."""
WAYS = ("refreshed", "kept")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ClassGeometry:
    """Where classes lie."""

    centres: NDArray[np.float64]
    """(C, D) by the old model, and by new ones with its coordinates."""
    others: NDArray[np.float64]
    """(C, D) the same places, given to other classes: as hard to tell apart, and no rotation leads from one to the other."""

    @classmethod
    def draw(cls, seed: int) -> "ClassGeometry":
        """The world of a seed."""
        draw = np.random.default_rng(seed)
        centres = draw.normal(size=(CLASSES, DIMENSIONS))
        return cls(centres, centres[draw.permutation(CLASSES)])

    def held_out(
        self, noise: float | None, way: str, queries: int, draw: np.random.Generator
    ) -> tuple[NDArray[np.int64], Vectors, Vectors]:
        """Labels (Q,) of new images, and their vectors (Q, D) by the old model and by one of this noise."""
        labels = np.arange(queries) % CLASSES
        image, old, new = draw.normal(size=(3, queries, DIMENSIONS))
        before = self.centres[labels] + OLD_NOISE * (image + old) / np.sqrt(2)
        centres = (self.others if way == "refreshed" else self.centres)[labels]
        after = new if noise is None else centres + noise * (image + new) / np.sqrt(2)
        return labels, before.astype(np.float32), after.astype(np.float32)


def offer(world: ClassGeometry, noise: float | None, way: str, queries: int, draw: np.random.Generator) -> PairCheck:
    """Evidence on new held-out images, as ``check`` takes it."""
    labels, before, after = world.held_out(noise, way, queries, draw)
    everything = np.arange(queries)
    images = ImageSet(
        np.zeros((1, 1, 1, 3), np.uint8), np.zeros(queries, np.int64), labels, tuple(map(str, range(CLASSES))),
        uris=("",) * queries, hashes=tuple(hash_pixels(row) for row in before.view(np.uint8)),
    )  # fmt: skip
    old = EmbeddedSpace("v1", "old", unit(before), tuple(map(str, range(CLASSES // 2))))
    new = EmbeddedSpace("v2", "new", unit(after), ())
    return check_pair(Pairing(Protocol(images, everything, everything, ""), new, old, GATE))


def unit(rows: Vectors) -> Vectors:
    """Rows (N, D) of unit length."""
    found: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def promoted(pair: PairCheck, way: str) -> bool:
    """Whether ``promote`` would let it answer: alone, and where the old vectors were kept, in them too."""
    return not any(condition.failed for condition in GATE.conditions(pair.serves, Scope(searched=way == "kept")))


def run(offers: int, queries: int, seed: int) -> list[dict[str, Any]]:
    """A row for each model and way."""
    rows: list[Any] = []
    for way in WAYS:
        for name, noise in MODELS.items():
            draw, world = np.random.default_rng([seed, len(rows)]), ClassGeometry.draw(seed)
            started = time.perf_counter()
            found = [offer(world, noise, way, queries, draw) for _ in range(offers)]
            verdicts = Counter(pair.verdict for pair in found)
            better = np.mean([pair.evidence.self_change.mean for pair in found])
            rows.append(
                {
                    "way": way,
                    "model": name,
                    "better_by_points": round(100 * float(better), 2),
                    "verdicts": {word: verdicts[word] for word in get_args(Verdict)},
                    "promoted": sum(promoted(pair, way) for pair in found),
                    "offers": offers,
                    "seconds": round(time.perf_counter() - started, 1),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def written(result: dict[str, Any]) -> str:
    """The table of the page."""
    words = get_args(Verdict)
    rows = [
        [
            row["model"], row["way"], f"{row['better_by_points']:+.1f}".replace("-", "−"),
            *(str(row["verdicts"][word]) for word in words), str(row["promoted"]),
        ]
        for row in result["rows"]
    ]  # fmt: skip
    return table(["model", "gallery", "better alone by, points", *words, "promoted"], rows)


def main() -> None:
    """Measure, record, and write the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offers", type=int, default=200)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only write the table, from the recorded result")
    arguments = parser.parse_args()
    if not arguments.table:
        rows = run(arguments.offers, arguments.queries, arguments.seed)
        record("gate", {"queries": arguments.queries, "rows": rows}, arguments.seed)
    write_between(PAGE, "gate", written(recorded("gate")))


if __name__ == "__main__":
    main()

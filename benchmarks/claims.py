"""What README, cards and other pages claim of who finds more, and the result files that carry it.

``results.py`` writes them into the page of results as a table, and a test holds each to its page and to its files.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import recorded
from evergallery.benchmark.tables import COLUMNS, Difference, by_method, difference, read_runs

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Order:
    """That one method finds more than another, or that the seeds show no order of the two.

    Attributes:
        directory: of the results, below ``results``.
        one: a method, as a row of a table is called.
        other: that it is compared with.
        column: of the table.
        more: whether the first finds more, or less; ``None`` where no order is claimed.
    """

    directory: str
    one: str
    other: str
    column: str
    more: bool | None

    def found(self) -> Difference:
        """The difference over the seeds that both have."""
        runs = by_method(read_runs(ROOT / "results" / self.directory))
        column = next(column for column in COLUMNS if column.title == self.column)
        found = difference(runs[self.one], runs[self.other], column)
        assert found is not None, f"{self.one} and {self.other} share no seed in {self.directory}"
        return found

    def holds(self) -> bool:
        """Whether the seeds carry it."""
        found = self.found()
        return found.shown == (self.more is not None) and (self.more is None or (found.mean > 0) == self.more)

    def text(self) -> str:
        """What the runs say, in points."""
        found = self.found()
        mean = f"{found.mean:+.1f}".replace("-", "−")
        return f"{self.column}, {self.one} − {self.other}: {mean}" + (
            "" if found.half is None else f" ± {found.half:.1f}"
        )

    def place(self) -> str:
        """The table that it is of, as a link from the page of results."""
        return f"[{self.directory}](../results/{self.directory}/table.md)"


@dataclass(frozen=True)
class Figure:
    """What a file of ``benchmarks/results`` says.

    Attributes:
        name: of the file.
        says: of its result, in words.
        carried: of its result, whether the claim holds.
    """

    name: str
    says: Callable[[Any], str]
    carried: Callable[[Any], bool]

    def holds(self) -> bool:
        """Whether the file carries it."""
        return self.carried(recorded(self.name))

    def text(self) -> str:
        """What the file says."""
        return self.says(recorded(self.name))

    def place(self) -> str:
        """The file, as a link from the page of results."""
        return f"[{self.name}.json](../benchmarks/results/{self.name}.json)"


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        page: below the root of the repository.
        words: that stand there, line breaks aside.
        carried_by: what it rests on.
    """

    page: str
    words: str
    carried_by: tuple[Order | Figure, ...]

    def stands(self) -> bool:
        """Whether the page says so."""
        return " ".join(self.words.split()) in " ".join((ROOT / self.page).read_text().split())


def _share(result: Any, title: str, test: str) -> float:
    """recall@1 in % of a generation of the demo, all classes."""
    return 100.0 * float(next(one[test]["all"]["recall@1"] for one in result["generations"] if title in one["title"]))


def _dips(result: Any, order: str, ranking: str) -> list[float]:
    """Points by which the worst mixture lies below both ends, the worst seed of each update."""
    return [100 * min(orders[order][ranking]["dip"]) for orders in result["curves"].values()]


def _worst(result: Any, order: str) -> str:
    """The worst of these, calibrated."""
    return f"{order}, by probability, the worst seed: {min(_dips(result, order, 'probability')):.1f} points".replace(
        "-", "−"
    )


def _upgrades(result: Any) -> dict[str, tuple[float, float, float]]:
    """By pair of models: recall@1 in % of the old one, of re-scoring, of a full refresh; where that gains two points."""
    found = {}
    for name, ways in result.items():
        if "|" in name:
            before, rescored = (ways[way]["0 %"]["mean"] for way in ("wait: the old model alone", "re-score 20"))
            after = ways["everything refreshed"]["mean"]
            if after - before > 2:
                found[name.replace("|", ", ")] = (before, rescored, after)
    return found


GLYPHS, LONG, ABLATION = "glyphs-standard", "glyphs-10-standard", "ablation/glyphs-standard"
EVERGREEN = "docs/methods/evergreen.md"
FROZEN = ("evergreen", "joint")

CLAIMS = (
    Claim(
        "README.md",
        "After plain fine-tuning the gallery is lost: new queries find little in the old vectors.",
        (
            Figure(
                "demo",
                lambda r: (
                    f"v1 {_share(r, 'v1', 'self'):.1f} %, fine-tuned in v1's vectors {_share(r, 'fine', 'cross'):.1f} %"
                ),
                lambda r: _share(r, "fine", "cross") < 0.25 * _share(r, "v1", "self"),
            ),
            Order(GLYPHS, "finetune", "initial", "all cross", more=False),
        ),
    ),
    Claim(
        "README.md",
        "its queries find in the old vectors what `v1` finds there",
        (Order(GLYPHS, "evergreen", "initial", "all cross", more=None),),
    ),
    Claim(
        "docs/methods/joint.md",
        "New queries find nothing among old vectors",
        (Order(GLYPHS, "joint", "initial", "all cross", more=False),),
    ),
    Claim(
        "docs/methods/csd.md",
        "Then joint training is the upper bound.",
        (Order(GLYPHS, "joint", "csd", "all self", more=True),),
    ),
    Claim(
        "docs/methods/replay.md",
        "Joint training is the better bound then.",
        (Order(GLYPHS, "joint", "replay", "all self", more=True),),
    ),
    Claim(
        "docs/methods/csd.md",
        "fine-tuning did not find more of them",
        (Order(GLYPHS, "csd", "finetune", "new self", more=None),),
    ),
    Claim(
        "docs/methods/l2.md",
        "its queries find more in the old vectors than those of either",
        (
            Order(GLYPHS, "l2", "contrastive", "all cross", more=True),
            Order(GLYPHS, "l2", "bct", "all cross", more=True),
        ),
    ),
    Claim(
        "docs/methods/mutual.md",
        "it finds a fifth of a point more on `glyphs` in vectors of its own, and the seeds show no difference in old vectors",
        (
            Order(GLYPHS, "mutual", "relation", "all self", more=True),
            Order(GLYPHS, "mutual", "relation", "all cross", more=None),
        ),
    ),
    Claim(
        EVERGREEN,
        "You will extract all old vectors again anyway, so that only the new space counts. Then use [mutual](mutual.md), or "
        "[joint](joint.md)",
        (
            Order(GLYPHS, "mutual", "evergreen", "all self", more=True),
            Order(GLYPHS, "joint", "evergreen", "all self", more=True),
        ),
    ),
    Claim(
        EVERGREEN,
        "three seeds show no order of `bct`, `csd` and evergreen in vectors of their own, and in the old vectors evergreen finds "
        "more than both",
        tuple(
            Order(GLYPHS, "evergreen", other, column, more=more)
            for other in ("bct@weight=64", "csd@contrastive_weight=16")
            for column, more in (("all self", None), ("all cross", True))
        ),
    ),
    Claim(
        EVERGREEN,
        "On `glyphs` that anchor finds 1.4 points more of all classes in vectors of its own and as much in the old ones",
        (
            Order(GLYPHS, "evergreen@anchor_weight=1.875", "evergreen", "all self", more=True),
            Order(GLYPHS, "evergreen@anchor_weight=1.875", "evergreen", "all cross", more=None),
        ),
    ),
    Claim(
        EVERGREEN,
        "After one update, three seeds of `glyphs` show no loss in the old vectors",
        (
            Order(GLYPHS, "evergreen@expansion=False", "initial", "old cross", more=None),
            Order(GLYPHS, "evergreen@expansion=False", "initial", "all cross", more=None),
        ),
    ),
    Claim(
        EVERGREEN,
        "queries still find all that v1 finds in its vectors: 93.2 % of its own images, where nine updates by mutual "
        "distillation leave 63.1, by relation 43.2 and by CSD 25.8",
        (
            Order(LONG, "evergreen", "initial", "old cross", more=None),
            *(Order(LONG, "evergreen", other, "old cross", more=True) for other in ("mutual", "relation", "csd")),
        ),
    ),
    Claim(
        EVERGREEN,
        "there relation finds 13.6 points more of all classes, CSD 9.9 and BCT 4.9",
        tuple(Order(LONG, other, "evergreen", "all self", more=True) for other in ("relation", "csd", "bct")),
    ),
    Claim(
        EVERGREEN,
        "The contrast brings the new classes",
        (Order(ABLATION, "evergreen", "evergreen@contrastive_weight=0", "new self", more=True),),
    ),
    Claim(
        EVERGREEN,
        "That the anchor keeps the old vectors, three seeds do not show",
        (Order(ABLATION, "evergreen", "evergreen@anchor_weight=0", "all cross", more=None),),
    ),
    Claim(
        EVERGREEN,
        "nor what the prototypes give",
        (
            Order(ABLATION, "evergreen", "evergreen@prototype_weight=0", "all self", more=None),
            Order(ABLATION, "evergreen", "evergreen@prototype_weight=0", "all cross", more=None),
        ),
    ),
    Claim(
        "docs/pretrained.md",
        "where the whole network learned, on `glyphs`, it was",
        (Order(GLYPHS, "joint", "evergreen", "all self", more=True),),
    ),
    Claim(
        "docs/pretrained.md",
        "With a frozen backbone it was no better than `evergreen` in the tables above",
        tuple(
            Figure(
                f"photographs_{name}",
                lambda r: "v3, all classes: " + ", ".join(f"{m} {r['summary'][m]['last, all'][0]}" for m in FROZEN),
                lambda r: r["summary"]["joint"]["last, all"][0] <= r["summary"]["evergreen"]["last, all"][0],
            )
            for name in ("grocery_2", "grocery_2_tf_efficientnet_lite1", "omniglot_2")
        ),
    ),
    Claim(
        "docs/upgrades.md",
        "In random order calibration leaves no mixture more than a point below both of its ends",
        (
            Figure(
                "mixed_gallery",
                lambda r: _worst(r, "random"),
                lambda r: min(_dips(r, "random", "probability")) >= -1,
            ),
        ),
    ),
    Claim(
        "docs/upgrades.md",
        "the worst mixtures lie up to two points lower even when calibrated",
        (
            Figure(
                "mixed_gallery",
                lambda r: _worst(r, "uncertain"),
                lambda r: -2.5 < min(_dips(r, "uncertain", "probability")) < -1,
            ),
        ),
    ),
    Claim(
        "docs/upgrades.md",
        "typical items first, no calibrated mixture dips",
        (
            Figure(
                "mixed_gallery",
                lambda r: _worst(r, "typical"),
                lambda r: min(_dips(r, "typical", "probability")) == 0,
            ),
        ),
    ),
    Claim(
        "docs/upgrades.md",
        "re-scoring gives most of the upgrade before anything is refreshed",
        (
            Figure(
                "answering",
                lambda r: "; ".join(
                    f"{name}: {before:.1f}, re-scored {rescored:.1f}, refreshed {after:.1f}"
                    for name, (before, rescored, after) in _upgrades(r).items()
                ),
                lambda r: all(
                    rescored - before > after - rescored for before, rescored, after in _upgrades(r).values()
                ),
            ),
        ),
    ),
)


def markdown() -> str:
    """The table of claims for the page of results."""
    lines = ["| page | claim | carried by | which says |", "|---|---|---|---|"]
    for claim in CLAIMS:
        target = os.path.relpath(ROOT / claim.page, ROOT / "docs")
        places = ", ".join(dict.fromkeys(one.place() for one in claim.carried_by))
        says = "; ".join(one.text() for one in claim.carried_by)
        # A link of that page leads elsewhere from this one.
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", claim.words)
        lines.append(f"| [{Path(claim.page).name}]({target}) | {words} | {places} | {says} |")
    return "\n".join(lines) + "\n"

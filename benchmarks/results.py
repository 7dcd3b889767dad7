"""``docs/results.md`` from the result files under ``results/``: one command, no figure by hand."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import claims
from common import recorded, recorded_whole, table, wrapped, write_between
from evergallery.benchmark.further_tables import ranks_markdown
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.report import write_report
from evergallery.benchmark.tables import (
    COLUMNS,
    begins_alike,
    by_method,
    difference,
    difference_text,
    markdown,
    read_runs,
)
from evergallery.benchmark.updates import updates_markdown

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "methods" / "evergreen.md"
FURTHER = {"ablation": "What each part of evergreen contributes: {}"}
"""Directories below that of the results which hold directories of their own, and what their sections are called."""

HEAD = """# Results

With this page you look up how a method did on a data set, and which command makes the same table on your machine.

Every table is made from the files under [results/](../results), one for each run, by `python benchmarks/results.py`; each file
holds the command, seed, commit, hardware, versions, hyper-parameters, data, their split and digest, and all figures of the run.
The command under a table makes its runs again in the folder where its [data](#the-data) lie; what is there already is kept.

How to read them: a *self-test* searches vectors of the last generation with its own queries, what a gallery gives that was
extracted again. A *cross-test* searches the untouched vectors of the first generation. Nothing is chosen on test images: the
hyper-parameters are those of the papers or of the [cards](methods/README.md), and those of evergreen were chosen on
generated characters that no table shows and on a part of CIFAR-100's training images. The weight of every method that has
one, but of `cl2r`, was searched for in [the same way](#the-same-search-for-every-method) afterwards, on characters of their
own; rows with `@` and a weight have what that search chose, or a narrower one before it (`bct@weight=16`,
`lce@alignment_weight=400`, `evergreen@anchor_weight=7.5`), beside the published settings, where the two differ and a table has
both. Budgets of `standard` are for two CPU cores: minutes where the papers train for a day, so absolute figures lie below the
published ones. Seconds are rough: runs went side by side, one thread each, beside other work, and some were paused on the way.

STANDING

ORDERS

Rows `evergreen@expansion=False` are of its network alone. What it loses in the old vectors is little on characters, where it is
shown at all, and much on photographs. What is served by default has the first generation's embeddings beside it and finds in the
old vectors what the first generation finds, neither less nor more ([card](methods/evergreen.md)).

Evergreen's weights were chosen twice. A first pair (4 and 10) had been run on glyphs here before the second (6 and 30) was
looked for; that the first lost something in the old vectors for seed 0 is why. The second was then chosen on the development
images alone; the [card](methods/evergreen.md) has both. What holds it over many updates, the anchor to the root and averaged
weights, was chosen on characters of another seed and class order before any run of evergreen on `glyphs-10` was looked at; it
leaves a first update as it was, so that protocols of two tasks are not concerned.

## The data

`glyphs` is drawn by the command itself. `cifar100.npz` is made from the published `cifar-100-python/` by `python
benchmarks/pack.py cifar100 cifar-100-python cifar100.npz`, and `omniglot.npz` from the published drawings by `python
benchmarks/pack.py omniglot omniglot omniglot.npz`. `grocery` is a folder of copies of the published photographs with a shorter
side of 64 pixels, in WebP at quality 90, which cannot be made again to the byte: the photographs themselves give other figures.
`pack.py` says whether the digest is that under the tables.

## What was run

The seeds of each method with its default settings in each protocol with a `standard` budget; a dash stands where it was not run.

COVERED
"""

ORDERS = (
    "Which method is ahead is said by the differences under each table, paired on the seed, and by nothing else: an order that "
    "the seeds do not carry stands in parentheses there. The same seed on another processor, or with another precision, rounds "
    "otherwise, and training multiplies that{}. So a table of one seed shows no order, and a figure of one seed is marked. Each "
    "interval is of one comparison alone: of twenty pairs that do not differ, one is shown to, and there are hundreds here. All "
    "seeds are tested on the same images, so that an interval says nothing of others."
)


def standing(directories: Sequence[Path]) -> str:
    """Which tables are of one commit, and what the others lack, as their files say."""
    whole, alike, uncurved = [], [], []
    for directory in directories:
        runs, link = read_runs(directory), f"[{directory.name}](#{directory.name})"
        if len({run["commit"] for run in runs}) == 1:
            whole.append(link)
        if any(map(begins_alike, runs)):
            alike.append(link)
        # Between spaces that an adapter brings together there is no curve.
        names = {run["method"] for run in runs if "+" not in run["method"] and run["measures"].get("refresh") is None}
        if names:
            uncurved.append(f"for {', '.join(sorted(names))} in {link}")
    sentences = []
    if whole:
        commits = {run["commit"] for directory in directories for run in read_runs(directory)}
        together = (
            f"; all tables together are of {len(commits)}"
            if len(whole) == len(directories) and len(commits) > 1
            else ""
        )
        sentences.append(f"All runs of a table are of one commit for {', '.join(whole)}{together}.")
    if len(whole) < len(directories):
        sentences.append("The runs of another table are of several commits, which its foot names.")
    if uncurved:
        sentences.append(
            f"The refresh curve and *old rate 50* are missing {'; '.join(uncurved)}, because the commits of these runs did not "
            "measure them between vectors of one part and of two: see [mixed galleries](upgrades.md#mixed-galleries)."
        )
    sentences += other_images(directories)
    if alike:
        sentences.append(
            f"Rows of `joint` have no cross-test (*n. m.*) until they are run again in {', '.join(alike)}."
        )
    return wrapped(" ".join(sentences))


def covered(directories: Sequence[Path]) -> str:
    """How many seeds of each method every table has, in Markdown: where none stands, it was not run."""
    seeds: dict[str, dict[str, int]] = {}
    for directory in directories:
        for method, runs in by_method(read_runs(directory)).items():
            if "@" not in method:
                seeds.setdefault(method, {})[directory.name] = len(runs)
    names = [directory.name for directory in directories]
    rows = [
        (method, *(str(found.get(name, "–")) for name in names))
        for method, found in sorted(seeds.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return table(("method", *(f"[{name.removesuffix('-standard')}](#{name})" for name in names)), rows)


def other_images(directories: Sequence[Path]) -> list[str]:
    """Which tables are of other images than most of a set of one name, as the digests of their files say."""
    places: dict[tuple[str, str], dict[str, list[str]]] = {}
    for directory in directories:
        run = read_runs(directory)[0]
        if (name := run["data"].get("set")) is not None:
            found = places.setdefault((name, str(run.get("settings", {}).get("size"))), {})
            found.setdefault(run["data"]["fingerprint"], []).append(f"[{directory.name}](#{directory.name})")
    return [
        f"The images of `{name}` are others in {', '.join(links)} than in {', '.join(most)}, as their digests say; each file has "
        "the versions of the libraries that made them."
        for (name, _), by_digest in places.items()
        for most, *others in [sorted(by_digest.values(), key=len, reverse=True)]
        for links in others
    ]


def rounding(results: Path) -> str:
    """How far the runs of one seed lie apart in two tables, of the methods that both have run on the same images."""
    tests = [column for column in COLUMNS if column.title.endswith((" self", " cross"))]
    furthest: dict[str, float] = {}
    for further in sorted(path.parent for path in (results / "ablation").glob("*/runs")):
        first = results / further.name
        if not (first / "runs").is_dir():
            continue
        others = {(run["method"], run["seed"]): run for run in read_runs(further)}
        apart = [
            abs(found.mean)
            for run in read_runs(first)
            if (other := others.get((run["method"], run["seed"]))) is not None
            for test in tests
            if (found := difference([run], [other], test)) is not None
        ]
        if apart:
            furthest[f"[{first.name}](#{first.name})"] = max(apart)
    if not furthest:
        return ""
    told = " and ".join(f"up to {points:.1f} points apart in {link}" for link, points in furthest.items())
    return (
        f": two runs of one seed lie {told}, beside the parts of evergreen on the same images, which differ in processor, "
        "precision and commit"
    )


def side_by_side(results: Path) -> str:
    """Evergreen minus v1 and two of the papers' methods in every protocol, in Markdown; a dash where one was not run."""
    tests = {"its own": "all self", "v1's": "all cross", "half": "old rate 50"}
    pairs = [("its own", "initial"), *((test, other) for test in tests for other in ("csd", "mutual"))]
    rows = []
    for path in sorted((path.parent for path in results.glob("*/runs")), key=order):
        runs = by_method(read_runs(path))
        if "evergreen" not in runs:
            continue
        one = runs["evergreen"][0]
        columns = {column.title: column for column in COLUMNS}
        cells = [
            difference_text(difference(runs["evergreen"], runs.get(other, []), columns[tests[test]]))
            for test, other in pairs
        ]
        name = f"[{one['protocol']}](../results.md#{path.name})"
        rows.append((name, str(len(one["data"]["tasks"]) - 1), str(len(runs["evergreen"])), *cells))
    heads = (f"{test} − {'v1' if other == 'initial' else other}" for test, other in pairs)
    return table(("protocol", "updates", "seeds", *heads), rows)


WITHOUT_JOINT = {
    "glyphs-10-standard": "Joint training is not run yet: it learns nine networks from scratch on ever more images, about two "
    "and a half hours of a core for a seed.",
    "cifar100-10-standard": "Joint training is not run: nine networks from scratch on up to 50 000 images are about 14 hours of "
    "a core for a seed.",
    "mutual-multi-task-standard": "Joint training is run for one seed: its four networks from scratch take four times as long as "
    "the update of another row.",
}
"""Why a table lacks the bound, or seeds of it."""


def order(directory: Path) -> tuple[int, str]:
    """Where a directory of results stands on the page: as the protocols do."""
    protocol = read_runs(directory)[0]["protocol"]
    return list(PROTOCOLS).index(protocol), directory.name


def section(title: str, directory: Path, page: Path) -> str:
    """Table and plots of one directory."""
    runs = read_runs(directory)
    place = os.path.relpath(directory, page.parent)
    plots = "\n".join(f"![{path.stem}]({place}/{path.name})" for path in sorted(directory.glob("*.svg")))
    bound = f"{wrapped(WITHOUT_JOINT[title])}\n\n" if title in WITHOUT_JOINT else ""
    return (
        f"## {title}\n\n{markdown(runs)}\n{bound}{ranks_markdown(runs)}{updates_markdown(runs)}{plots}\n{virtual(runs)}"
    )


def search() -> str:
    """What the search that is the same for every method has found."""
    found = recorded("search")
    note = recorded_whole("search").get("note", "")
    seeds = len(found["seeds"])
    rows, at_the_edge = [], 0
    for method, figures in found["methods"].items():
        cells = []
        for chosen in (figures["default"], figures["best"]):
            values = figures["values"][chosen]
            cells += [f"{float(chosen):g}", *(f"{100 * fmean(values[test]):.1f}" for test in ("self", "cross"))]
        ends = (next(iter(figures["values"])), list(figures["values"])[-1])
        edge = figures["best"] in ends
        at_the_edge += edge
        rows.append(f"| {method} | `{figures['weight']}` | " + " | ".join(cells) + f" | {'yes' if edge else ''} |")
    head = "| method | weight | default | self | cross | chosen | self | cross | at the edge |"
    further = (
        f" Where the best of them is the first or the last, the next one {found['step']} times beyond it is tried, too, up to "
        f"{found['most']} values for each method."
        if "most" in found
        else ""
    )
    return (
        "## The same search for every method\n\n"
        "Four values of each method's one main weight: its default, which is the published value where there is one, times "
        f"{', '.join(f'{factor:g}' for factor in found['factors'])}.{further} On 80 generated characters that no table shows "
        f"(`benchmarks/glyphs_characters.json`), half and half, at {found['size']} pixels, {seeds} seeds, otherwise as `glyphs` "
        "with a `standard` budget; about half a minute of one core for each method and seed. What is chosen has the highest mean "
        "of recall@1 of all classes in vectors of its own (*self*) and in the first generation's (*cross*). The first generation "
        f"is weak there, at {100 * found['initial']:.1f} % on all classes, and these seeds show no order of neighbours: it is a "
        f"search, not a comparison. {at_the_edge} of the {len(rows)} chosen values are the first or the last that was tried"
        + (": a further one may be better still.\n\n" if at_the_edge else ".\n\n")
        + f"{head}\n|---|---|---:|---:|---:|---:|---:|---:|---|\n"
        + "\n".join(rows)
        + "\n\nMade by `python benchmarks/search.py`; every value is in "
        + f"[search.json](../benchmarks/results/search.json). {note}".rstrip()
        + "\n"
    )


def claimed() -> str:
    """What the pages claim of who finds more, each with its file."""
    return (
        "## What the pages claim, and what carries it\n\n"
        "What the README, the cards and other pages say in words of who finds more, with the files that it rests on and "
        "what they say: differences paired on the seed, in points, with half of the 95 % interval. Where a sentence says that no "
        "difference is shown, the interval holds 0. A test holds each to its page and to its files.\n\n"
        + claims.markdown()
    )


def virtual(runs: list[dict[str, Any]]) -> str:
    """How close virtual features come to the real ones, where runs measured it."""
    measured = [run for run in runs if run["measures"].get("virtual")]
    if not measured:
        return ""
    names = ("cosine", "cosine_untouched", "recall_real", "recall_virtual", "recall_untouched")
    rows = []
    for (generation, weighting), gain in claims.virtual_gains(measured).items():
        found = [run["measures"]["virtual"][generation][weighting] for run in measured]
        means = [fmean(values[name] for values in found) for name in names]
        cells = [f"{mean:.3f}" for mean in means[:2]] + [f"{100 * mean:.1f}" for mean in means[2:]]
        rows.append((generation, weighting, *cells, gain.text()))
    heads = ("cosine to the real ones", "of untouched new ones", "recall@1 in real", "in virtual", "in untouched")
    seeds = sorted(run["seed"] for run in measured)
    told = f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"\nVirtual features of earlier generations (mutual distillation, {told}): estimated from the last "
        "generation's features and its memory, beside the real ones and beside doing nothing, on test images of all classes "
        "seen; queries are the earlier generation's own. The last column is what virtual features find more than untouched "
        "ones, in points: mean ± half of the 95 % interval.\n\n"
        + table(("vectors of", "weighting", *heads, "virtual − untouched"), rows)
        + "\n"
    )


def kept(results: Path) -> list[tuple[str, Path]]:
    """The directories of results with what their sections are called, as they stand on the page."""
    found = [(path.name, path) for path in sorted((path.parent for path in results.glob("*/runs")), key=order)]
    for name, title in FURTHER.items():
        further = sorted((path.parent for path in (results / name).glob("*/runs")), key=order)
        found += [(title.format(path.name), path) for path in further]
    return found


def whole_page(results: Path, page: Path) -> str:
    """The page, as the files below a directory say; ``page`` is where it will be."""
    tables = [path for title, path in kept(results) if title == path.name]
    head = HEAD.replace("STANDING", standing(tables)).replace("COVERED", covered(tables))
    head = head.replace("ORDERS", wrapped(ORDERS.format(rounding(results))))
    sections = [section(title, path, page) for title, path in kept(results)]
    return "\n".join([head, *sections, search(), claimed()])


def main() -> None:
    """Write the page, and the tables and plots beside the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="directories of results lie here")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md", help="the page to write")
    options = parser.parse_args()
    for _, directory in kept(options.results):
        write_report(directory)
    options.page.write_text(whole_page(options.results, options.page))
    if options.results == parser.get_default("results"):
        write_between(CARD, "protocols", side_by_side(options.results))
    methods = (f"{path.name}: {len(by_method(read_runs(path)))} methods" for _, path in kept(options.results))
    print(options.page, *methods, sep="\n")


if __name__ == "__main__":
    main()

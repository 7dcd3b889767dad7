"""Result files to tables: mean and spread over seeds, as Markdown, CSV and LaTeX."""

import csv
import io
import json
import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery.benchmark.contenders import ALWAYS, BASELINE, BOUND, INITIAL, REFERENCES
from evergallery.benchmark.differences import Difference, half_interval
from evergallery.benchmark.known_data import described
from evergallery.errors import DamagedError, InputError
from evergallery.methods import METHODS
from evergallery.retrieval.continual import advbct_compatibility, advbct_update, price, update_gain

Run = Mapping[str, Any]
NOT_MEANT = "n. m."


def _cell(group: str, q: int, g: int) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        matrices = run["measures"]["compatibility"].get(group)
        return None if matrices is None else matrices["recall@1"][q][g]

    return value


def _halfway(run: Run) -> float | None:
    """Old rate 50 between 100, the cross-test, and 0, the self-test (Dual-Tuning)."""
    curve = run["measures"].get("refresh")
    return curve["recall@1"][list(curve["shares"]).index(0.5)] if curve and 0.5 in curve["shares"] else None


def _derived(name: str) -> Callable[[Run], float | None]:
    return lambda run: run["measures"]["derived"].get(name)


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    value: Callable[[Run], float | None]
    explained: str
    percent: bool = True
    across: bool = False
    """True if it sets a later generation beside the first one's vectors."""

    def of(self, run: Run) -> float | None:
        """The value of a run, where it has one that means something."""
        return None if self.across and begins_alike(run) else self.value(run)

    @property
    def digits(self) -> int:
        """Decimal places that are shown."""
        return 0 if self.title in ("seconds", "MiB") else 1 if self.percent else 2


def begins_alike(run: Run) -> bool:
    """Return whether a run's later generations began with the very weights that the first one began with.

    Result files of format 1 are of versions that had one seed of weights for both: what methods from scratch then find in old
    vectors comes from that, and not from what they do.
    """
    method = METHODS.get(run["method"].partition("+")[0].partition("@")[0])
    return run.get("format", 1) < 2 and method is not None and not method.needs.parent_weights


COLUMNS: tuple[Column, ...] = (
    Column("old self", _cell("old", -1, -1), "first task's classes, queries and vectors of the last generation"),
    Column(
        "old cross",
        _cell("old", -1, 0),
        "first task's classes, queries of the last generation, vectors of the first",
        across=True,
    ),
    Column("new self", _cell("new", -1, -1), "all later classes, last generation"),
    Column("new cross", _cell("new", -1, 0), "all later classes, vectors of the first generation", across=True),
    Column("all self", _cell("all", -1, -1), "all classes pooled, last generation"),
    Column("all cross", _cell("all", -1, 0), "all classes pooled, vectors of the first generation", across=True),
    Column("unseen self", _cell("unseen", -1, -1), "classes of no task, last generation"),
    Column("unseen cross", _cell("unseen", -1, 0), "classes of no task, vectors of the first generation", across=True),
    Column("avg recall", _derived("average recall"), "mean over tasks, own galleries, last generation"),
    Column("forgetting", _derived("forgetting"), "best earlier minus last, mean over earlier tasks, own galleries"),
    Column("AM", _derived("AM"), "mean of the compatibility matrix, all classes", across=True),
    Column(
        "AC",
        _derived("AC"),
        "share of cross-tests above the older self-test; where both find the same, equal distances decide",
        percent=False,
        across=True,
    ),
    Column(
        "neg. flips",
        _derived("negative flips"),
        "queries right in the first generation, wrong in the last cross-test",
        across=True,
    ),
    Column(
        "update gain",
        lambda run: run.get("update gain"),
        "(cross - old self) / (M* - old self), M* of joint",
        False,
        across=True,
    ),
    Column(
        "old rate 50",
        _halfway,
        "recall@1 of the last generation's queries when half of the first one's vectors are left",
        across=True,
    ),
    Column("P_up", lambda run: run.get("P_up"), "AdvBCT's 100 σ((all self - M*) / M*), M* of joint; 50 is neutral"),
    Column(
        "P_comp",
        lambda run: run.get("P_comp"),
        "AdvBCT's 100 σ(update gain); 50 is neutral",
        across=True,
    ),
    Column("price", lambda run: run.get("price"), "M* of joint minus all self"),
    Column(
        "seconds", lambda run: sum(phase["seconds"] for phase in run["phases"][1:-1]), "of training, all updates", False
    ),
    Column(
        "MiB",
        lambda run: max((p["memory_mib"].get("host", 0) for p in run["phases"][1:-1]), default=0) or None,
        "peak memory of the process in training",
        False,
    ),
)


def read_runs(directory: Path) -> list[dict[str, Any]]:
    """Every result file of a directory, with update gain and price where a joint run of the same seed gives M*.

    Raises:
        InputError: there is none.
        DamagedError: a file is no result.
    """
    paths = sorted((directory / "runs").glob("*.json"))
    if not paths:
        raise InputError(f"{directory} holds no results of a benchmark: there is no file in {directory / 'runs'}.")
    runs = []
    for path in paths:
        try:
            runs.append(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise DamagedError(
                f"{path} is not a result of a benchmark: delete it, and the run is made again."
            ) from error
    best = {run["seed"]: _cell("all", -1, -1)(run) for run in runs if run["method"] == BOUND}
    for run in runs:
        unconstrained = best.get(run["seed"])
        cross, before, now = (_cell("all", q, g)(run) for q, g in ((-1, 0), (0, 0), (-1, -1)))
        if unconstrained is None or cross is None or before is None or now is None:
            continue
        run["update gain"] = update_gain(cross, before, unconstrained)
        run["price"] = price(unconstrained, now)
        if unconstrained > 0:
            run["P_up"] = advbct_update(now, unconstrained)
            run["P_comp"] = advbct_compatibility(cross, before, unconstrained)
    return runs


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each method, in the order of the table: initial, the baseline, the others by cross-test, the bound."""
    methods: dict[str, list[Run]] = {}
    for run in runs:
        methods.setdefault(run["method"], []).append(run)
    ends = {INITIAL: -2, BASELINE: -1, BOUND: 1}

    def place(name: str) -> tuple[int, float]:
        found = [_cell("all", -1, 0)(run) or 0.0 for run in methods[name] if not begins_alike(run)]
        return ends.get(name, 0), statistics.fmean(found or [0.0])

    return {name: methods[name] for name in sorted(methods, key=place)}


def summary(runs: Sequence[Run], column: Column) -> tuple[float, float] | None:
    """Mean and standard deviation over the seeds of one method; in points where the column is in percent."""
    values = [value for run in runs if (value := column.of(run)) is not None]
    if not values:
        return None
    factor = 100 if column.percent else 1
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return factor * statistics.fmean(values), factor * spread


def table(runs: Sequence[Run]) -> tuple[list[Column], dict[str, list[tuple[float, float] | None]]]:
    """Columns that any run fills, and for each method its means and spreads."""
    rows = {name: [summary(found, column) for column in COLUMNS] for name, found in by_method(runs).items()}
    kept = [index for index in range(len(COLUMNS)) if any(row[index] is not None for row in rows.values())]
    return [COLUMNS[i] for i in kept], {name: [row[i] for i in kept] for name, row in rows.items()}


def markdown(runs: Sequence[Run]) -> str:
    """The table with what it needs to be understood and made again, and the differences that the seeds carry."""
    columns, rows = table(runs)
    lines = [
        "| method | " + " | ".join(column.title for column in columns) + " | seeds | given |",
        "|---" + "|---:" * len(columns) + "|---:|---|",
    ]
    groups = by_method(runs)
    for name, cells in rows.items():
        given = ", ".join(groups[name][0]["given"]) or "nothing"
        texts = [_text(cell, column, groups[name]) for cell, column in zip(cells, columns, strict=True)]
        lines.append(f"| {name} | " + " | ".join(texts) + f" | {_seeds_text(groups[name])} | {given} |")
    return "\n".join([*lines, "", *_foot(runs, columns), "", *_differences(groups)]).rstrip() + "\n"


def row_name(name: str, runs: Sequence[Run]) -> str:
    """A method as tables and plots call it that have no column of seeds: told where its figures are of one."""
    return name if len(runs) > 1 else f"{name} (one seed)"


def _seeds_text(runs: Sequence[Run]) -> str:
    return f"{len(runs)}" if len(runs) > 1 else "**1**"


def difference(runs: Sequence[Run], others: Sequence[Run], column: Column) -> Difference | None:
    """The first runs minus the others, paired on the seed; ``None`` where they share none that has both values."""
    first, second = ({run["seed"]: column.of(run) for run in group} for group in (runs, others))
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    found = [(100 if column.percent else 1) * (a - b) for a, b in pairs if a is not None and b is not None]
    return Difference.of(found) if found else None


def _differences(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Lines that show which order the seeds carry: each method minus the references, on all classes."""
    columns = [column for column in COLUMNS if column.title in ("all self", "all cross")]
    references = [name for name in REFERENCES if name in groups]
    pairs = [(group, other, column) for other in references for column in columns for group in groups if group != other]
    cells = {
        (group, other, column.title): difference(groups[group], groups[other], column) for group, other, column in pairs
    }
    named = [
        group for group in groups if any(cells.get((group, other, c.title)) for other in references for c in columns)
    ]
    if not references or len(groups) < 2:
        return []
    heads = [f"{column.title} − {other}" for other in references for column in columns]
    lines = [
        "Differences, paired on the seed: mean ± half of the 95 % interval by Student's t over the seeds. In parentheses where "
        "the interval holds 0, so that these seeds show no order; of one seed there is no interval, and no order is shown.",
        "",
        "| method | " + " | ".join(heads) + " |",
        "|---" + "|---:" * len(heads) + "|",
    ]
    for group in named:
        row = [difference_text(cells.get((group, other, c.title))) for other in references for c in columns]
        lines.append(f"| {group} | " + " | ".join(row) + " |")
    for name, method in METHODS.items():
        without = method.adds_to
        if without is not None and name in groups and without in groups:
            texts = [
                f"{column.title} {difference_text(difference(groups[name], groups[without], column))}"
                for column in columns
            ]
            lines += ["", f"{name} − {without}: {', '.join(texts)}."]
    return lines


def difference_text(found: Difference | None) -> str:
    """A cell of a table of differences."""
    return "–" if found is None else found.text()


def latex(runs: Sequence[Run]) -> str:
    """The main table as a LaTeX ``tabular``."""
    columns, rows = table(runs)
    groups = by_method(runs)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(columns)}r}}",
        r"\toprule",
        " & ".join(["method", *(column.title for column in columns), "seeds"]) + r" \\",
        r"\midrule",
    ]
    for name, cells in rows.items():
        values = [_text(*pair, groups[name]).replace("±", r"$\pm$") for pair in zip(cells, columns, strict=True)]
        lines.append(" & ".join([name.replace("_", r"\_"), *values, str(len(groups[name]))]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def comma_separated(runs: Sequence[Run]) -> str:
    """One line for each run and no rounding."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["protocol", "budget", "method", "seed", *(column.title for column in COLUMNS)])
    for run in sorted(runs, key=lambda run: (run["method"], run["seed"])):
        values = [column.of(run) for column in COLUMNS]
        writer.writerow(
            [run["protocol"], run["budget"], run["method"], run["seed"], *("" if v is None else v for v in values)]
        )
    return file.getvalue()


def _text(cell: tuple[float, float] | None, column: Column, runs: Sequence[Run]) -> str:
    if cell is None:
        return NOT_MEANT if column.across and any(map(begins_alike, runs)) else "–"
    mean, spread = cell
    return f"{mean:.{column.digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{column.digits}f}")


def _foot(runs: Sequence[Run], columns: Sequence[Column]) -> list[str]:
    first = runs[0]
    seeds = sorted({run["seed"] for run in runs})
    groups = by_method(runs)
    data = first["data"]
    commits = sorted({str(run["commit"]) for run in runs})
    alone = [name for name, found in groups.items() if len(found) == 1]
    missing = [name for name in ALWAYS if name not in groups]
    remarks = []
    if alone and len(seeds) > 1:
        remarks.append(f"One seed alone: {', '.join(alone)}.")
    elif alone:
        remarks.append("One seed: which method is ahead may change with another.")
    if scarce := [column.title for column in columns if _of_one_seed(groups, column)]:
        remarks.append(f"Of one seed alone in every row: {', '.join(f'*{title}*' for title in scarce)}.")
    if missing:
        remarks.append(f"Not run: {', '.join(missing)}.")
    if earlier := [
        f"{name} (without {', '.join(new)})" for name, found in groups.items() if (new := _new_options(found[0]))
    ]:
        remarks.append(
            f"By an earlier version of the method, so that the command gives other figures by now: {', '.join(earlier)}."
        )
    if any(map(begins_alike, runs)):
        remarks.append(
            f"*{NOT_MEANT}*, not meant: these runs began each generation with the first one's initial weights, which is what "
            "their cross-tests would show."
        )
    return [
        f"Recall@1 in %, mean ± standard deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)} "
        f"({', '.join(map(str, seeds))}). Protocol `{first['protocol']}`, budget `{first['budget']}`: {first['shows']}. "
        f"{described(data)}; {_classes_text(runs)}; {data['training']} "
        f"training and {data['test']} test images; {data.get('searched', EVERY_IMAGE)}.",
        *(["", " ".join(remarks)] if remarks else []),
        "",
        *(f"- *{column.title}*: {column.explained}." for column in columns),
        "",
        f"Made by `{_command(runs, seeds)}` at commit{'s' * (len(commits) > 1)} {', '.join(commits)}{_machines_text(runs)}.",
    ]


def _of_one_seed(groups: Mapping[str, Sequence[Run]], column: Column) -> bool:
    """Return whether no row of several seeds has more than one value in a column, as where the bound was run for one seed."""
    values = [sum(column.of(run) is not None for run in found) for found in groups.values() if len(found) > 1]
    return max(values, default=0) == 1


def _machines_text(runs: Sequence[Run]) -> str:
    """On which machine, and in which precision, runs of a commit were made; of several, which seeds on each."""
    places: dict[str, set[int]] = {}
    for run in runs:
        machine, precision = run["hardware"], run.get("precision") or "precision not recorded"
        place = f"on {machine['processor']}, {machine['cores']} cores, {machine['device']}, {precision}"
        places.setdefault(place, set()).add(run["seed"])
    if len(places) == 1:
        return f" {next(iter(places))}"
    return ": " + "; ".join(
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} {place}"
        for seeds, place in sorted((sorted(seeds), place) for place, seeds in places.items())
    )


def _classes_text(runs: Sequence[Run]) -> str:
    """The numbers of classes, in all and of each task: by seeds where these draw other tasks."""
    of_seeds: dict[str, list[int]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        seeds = of_seeds.setdefault(", ".join(map(str, run["data"]["tasks"])), [])
        seeds += [run["seed"]] * (run["seed"] not in seeds)
    first = runs[0]["data"]
    classes, learned = first["classes"], sum(first["tasks"])
    tasks = "; ".join(
        f"{sizes} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if len(of_seeds) > 1 else sizes
        for sizes, seeds in of_seeds.items()
    )
    return f"{f'{learned} of ' * (learned < classes)}{classes} classes in tasks of {tasks}"


def _new_options(run: Run) -> list[str]:
    """Hyper-parameters by which the method may do otherwise by now: it has them, and had not when the run was made."""
    method = METHODS.get(run["method"].partition("+")[0].partition("@")[0])
    known = run.get("parameters")
    return [] if method is None or known is None else [name for name in method().parameters() if name not in known]


EVERY_IMAGE = "every test image queries the others of its group"


def _command(runs: Sequence[Run], seeds: Sequence[int]) -> str:
    """The command that makes these runs again: what was given for one of them, with the methods and seeds of all."""
    first = runs[0]
    options = first.get("options")
    if options is None:
        # Format 1 has the command as it was typed, and nothing in it but the data matters to the runs.
        words = shlex.split(first.get("command", ""))
        options = {"data": words[words.index("--data") + 1]} if "--data" in words[:-1] else {}
    words = ["evergallery", "benchmark", first["protocol"], "--budget", first["budget"]]
    words += ["--methods", ",".join(by_method(runs)), "--seeds", str(max(seeds) + 1)]
    for name, value in options.items():
        word = "--from-scratch" if (name, value) == ("pretrained", False) else f"--{name.replace('_', '-')}"
        words += [word, *([] if isinstance(value, bool) else [str(value)])]
    return shlex.join(words)


def compare(runs: Sequence[Run], others: Sequence[Run]) -> list[tuple[str, str, float, float, float | None]]:
    """Two result sets side by side, paired on the seed.

    Returns:
        Method, column, mean of the first, mean of the second, and half of the 95 % interval of their difference
        (Student's t over the seeds), ``None`` for a single seed.

    Raises:
        InputError: the sets share no method and seed.
    """
    first, second = ({(run["method"], run["seed"]): run for run in group} for group in (runs, others))
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise InputError("The two result sets share no run of the same method and seed: there is nothing to compare.")
    rows = []
    for method in dict.fromkeys(name for name, _ in shared):
        seeds = [seed for name, seed in shared if name == method]
        for column in COLUMNS:
            pairs = [(column.of(first[method, seed]), column.of(second[method, seed])) for seed in seeds]
            known = [(a, b) for a, b in pairs if a is not None and b is not None]
            if not known:
                continue
            factor = 100 if column.percent else 1
            means = [factor * statistics.fmean(values) for values in zip(*known, strict=True)]
            rows.append((method, column.title, means[0], means[1], half_interval([factor * (b - a) for a, b in known])))
    return rows


def set_apart(runs: Sequence[Run], others: Sequence[Run]) -> list[str]:
    """Return what two result sets differ in beside their figures, each with its first and second value; empty where nothing."""
    first, second = runs[0], others[0]
    pairs = {name: (first[name], second[name]) for name in ("protocol", "budget")}
    given = [run.get("options") or {} for run in (first, second)]
    pairs |= {
        f"--{name.replace('_', '-')}": (given[0].get(name, "not given"), given[1].get(name, "not given"))
        for name in dict.fromkeys([*given[0], *given[1]])
        if name not in ("data", "data_dir")
    }
    digests = [run["data"].get("fingerprint", "") for run in (first, second)]
    pairs["images"] = (digests[0][:12] or "not recorded", digests[1][:12] or "not recorded")
    return [f"{name} ({a}, {b})" for name, (a, b) in pairs.items() if a != b]

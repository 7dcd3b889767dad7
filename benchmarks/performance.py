"""Writes the tables of docs/performance.md from the result files of other benchmarks."""

from typing import Any

from common import DOCS, recorded, spaced, table, write_between

PAGE = DOCS / "performance.md"


def step_table(found: dict[str, Any]) -> str:
    rows = [
        (
            name, *(f"{figures[key]:.0f}" for key in figures if key.endswith("ms")), f"{figures['times the first']:.2f}",
            " to ".join(f"{each:.2f}" for each in figures["middle half of the ratios"]),
        )
        for name, figures in found["variants"].items()
    ]  # fmt: skip
    head = ("one step", "ms", "teacher", "forward, losses", "backward", "optimizer", "times the first", "middle half")
    return table(head, rows)


def speed_table(found: dict[str, Any]) -> str:
    rows = [
        (
            name, str(figures["images per second"]), f"{figures['times the plain recipe']:.2f}",
            " to ".join(f"{each:.2f}" for each in figures["lowest and highest ratio"]),
        )
        for name, figures in found["speed"].items()
        if "images per second" in figures
    ]  # fmt: skip
    return table(("learning", "images/s", "times the plain recipe", "lowest and highest"), rows)


def runs_table(found: dict[str, Any]) -> str:
    runs = found["whole runs, by seed"]
    plainly = next(iter(runs.values()))["seconds"]
    rows = []
    for name, figures in runs.items():
        ratios = [a / b for a, b in zip(plainly, figures["seconds"], strict=True)]
        rows.append(
            (
                name,
                each(figures["seconds"]),
                each(ratios, 2),
                *(each(figures[key]) for key in figures if "recall" in key),
            )
        )
    head = (
        "whole runs, seed by seed",
        "seconds",
        "times the plain recipe",
        "recall@1",
        "old classes, in the old vectors",
    )
    return table(head, rows)


def each(values: list[float], digits: int = 1) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def methods_table(found: dict[str, Any]) -> str:
    rows = [
        (
            f"`{name}`", f"{figures['images per second']:.0f}", f"{figures['times the seconds of finetune']:.2f}",
            f"{figures['peak, MiB']:.0f}", f"{figures['times the memory of finetune']:.2f}",
        )
        for name, figures in found["methods"].items()
    ]  # fmt: skip
    return table(("method", "images/s", "times fine-tuning's time", "peak, MiB", "times fine-tuning's peak"), rows)


def growth_table(found: dict[str, Any]) -> str:
    rows = []
    for count, figures in found["1000 queries"].items():
        seconds = figures["of a processor"]
        extracted = found["extraction"][count]["of a processor"]
        rows.append(
            (
                f"{int(count):,}".replace(",", " "), *(f"{1000 * seconds[name]:.0f}" for name in seconds),
                f"{seconds['ten nearest'] / seconds['bare products and topk']:.2f}",
                f"{figures['peak over inputs, MiB']:.0f}", f"{1e6 * extracted / int(count):.0f}",
            )
        )  # fmt: skip
    head = (
        "N", "bare products and topk, ms", "ten nearest, ms", "all metrics, ms", "ten nearest over bare", "memory, MiB",
        "extraction, µs an image",
    )  # fmt: skip
    return table(head, rows)


def metrics_table(found: dict[str, Any]) -> str:
    rows = []
    for count, figures in found["vectors"].items():
        busy = figures["processor seconds"]
        now = busy["by candidates"]
        times = (f"{busy[name] / now:.2f}" for name in ("by blocks", "by whole rows"))
        rows.append((spaced(int(count)), *(f"{taken:.2f}" for taken in busy.values()), *times))
    names = [f"{name}, s" for name in next(iter(found["vectors"].values()))["processor seconds"]]
    return table(("N", *names, "times as fast as by blocks", "as by whole rows"), rows)


def runtimes_table(found: dict[str, Any]) -> str:
    names = list(next(iter(found["networks"].values())))
    rows = [
        (network, *(f"{runs[name]['images per second']:.0f}" for name in names))
        for network, runs in found["networks"].items()
    ]
    cosines = [min(runs[name]["smallest cosine"] for runs in found["networks"].values()) for name in names]
    rows.append(("lowest cosine with torch", *(f"{cosine:.5f}" for cosine in cosines)))
    return table(("images a second", *names), rows)


def indexing_table(found: dict[str, Any]) -> str:
    shares = ("share of the bare network's speed", "share of the speed of network and decoding in turn")
    rows = []
    for network, of_network in found["networks"].items():
        for name, speed in of_network["images per second"].items():
            spent = of_network["processor milliseconds an image"][name]
            rows.append(
                (
                    f"{network}, {name}", f"{speed['bare']:.0f}", f"{speed['index']:.0f}",
                    f"{of_network['times as fast as tied to the first processors'][name]['median']:.2f}",
                    *(f"{of_network[share][name][figure]:.2f}" for share in shares for figure in ("median", "of a processor")),
                    *(f"{spent[what]:.1f}" for what in ("bare", "decoding", "index")),
                )
            )  # fmt: skip
    head = (
        "an index by", "bare, images/s", "index, images/s", "times as fast as before", "share of bare", "of a processor",
        "share of bare and decoding", "of a processor", "bare, processor ms an image", "decoding", "index",
    )  # fmt: skip
    return table(head, rows)


def parts_of_index_table(found: dict[str, Any]) -> str:
    rows = []
    for network, of_network in found["networks"].items():
        for name, parts in of_network["parts of an index, processor milliseconds an image"].items():
            rows.append((f"{network}, {name}", *(f"{parts[part]:.2f}" for part in PARTS)))
    return table(("processor ms an image", *PARTS), rows)


PARTS = (
    "reading and hashing", "decoding", "resizing", "network", "asking the gallery", "storing", "all else",
)  # fmt: skip


def frozen_table(found: dict[str, Any]) -> str:
    names = {
        "learning": "images", "an update": "images", "an update and its verdict": "images",
        "a refresh without images, 256 items at a time": "items", "a refresh without images": "items",
        "the bare engine stores as many": "items",
    }  # fmt: skip
    rows = [
        (name, spaced(found[name][count]), f"{found[name]['seconds']:.1f}", f"{found[name]['processor seconds']:.1f}")
        for name, count in names.items()
    ]
    return table(("with kept features", "images or items", "seconds", "of a processor"), rows)


def peers_table(found: dict[str, Any]) -> str:
    """One line a contender; an empty cell is what it cannot do."""
    rows = []
    for name in found["adding, s"]:
        cells = [f"{found['adding, s'][name]:.1f}"]
        cells.append(f"{found['indexing, s'][name]:.1f}" if name in found["indexing, s"] else "")
        for what in ("exact", "exact, one label in a hundred", "index", "index, one label in a hundred"):
            figures = found[what].get(name)
            cells.append("" if figures is None else f"{figures['one, ms']:.2f}")
            if what == "exact":
                cells.append("" if figures is None else f"{figures['in a batch, ms']:.2f}")
            if what.startswith("index"):
                cells.append("" if figures is None else f"{100 * figures['recall@10']:.1f}")
        reopened = found["reopening to the first answer, s"].get(name)
        cells.append("" if reopened is None else f"{reopened:.2f}")
        cells.append(spaced(found["bytes a vector"][name]))
        rows.append((name, *cells))
    head = (
        "", "adding, s", "index, s", "exact, ms", "in a batch, ms", "exact, one label, ms", "by index, ms", "recall@10, %",
        "by index, one label, ms", "recall@10, %", "reopening, s", "bytes a vector",
    )  # fmt: skip
    return table(head, rows)


def beside_engine_table(found: dict[str, Any]) -> str:
    """Ours beside the bare engine and what is in memory, with how many times as long as the bare engine ours takes.

    Of a processor as well, where the file says it.
    """
    names = list(found["adding, s"])
    ours, bare = names[:2]
    kinds = {
        "exact": "exact", "exact, one label": "exact, one label in a hundred", "by index": "index",
        "by index, one label": "index, one label in a hundred",
    }  # fmt: skip
    rows = []
    ratios = {"ours over bare": ""}
    if "one, ms of a processor" in found["exact"][ours]:
        ratios["of a processor"] = " of a processor"
    nothing = [""] * (len(ratios) - 1)
    for title, kind in kinds.items():
        for shown, figure in (("one, ms", "one, ms"), ("a query of 200, ms", "in a batch, ms")):
            taken = {name: one[figure] for name, one in found[kind].items()}
            both = [[found[kind][name][figure + kept] for name in (ours, bare)] for kept in ratios.values()]
            rows.append((
                f"{title}, {shown}", *(f"{mine / its:.2f}" for mine, its in both),
                *(f"{taken[name]:.2f}" if name in taken else "" for name in names),
            ))  # fmt: skip
    beside = found["adding beside questions"]
    rows.append((
        "one, while another thread adds, ms", f"{beside[ours]['one, ms'] / beside[bare]['one, ms']:.2f}", *nothing,
        *(f"{beside[name]['one, ms']:.2f}" if name in beside else "" for name in names),
    ))  # fmt: skip
    rows.append((
        "vectors added a second meanwhile", "", *nothing,
        *(spaced(beside[name]["vectors added a second"]) if name in beside else "" for name in names),
    ))  # fmt: skip
    rows.append(
        (
            "memory of a process that opens and searches, MiB",
            "",
            *nothing,
            *(f"{found['memory, MiB'][name]:.0f}" for name in names),
        )
    )
    return table(("", *ratios, *names), rows)


def shortcuts_table(found: dict[str, Any]) -> str:
    rows = []
    for what, title in (("bfloat16", "bfloat16"), ("reduced JPEGs", "reduced JPEGs")):
        for size, one in found[what].items():
            shares = [f"{100 * share:.1f}" for share in one["recall@1"].values()]
            rows.append(
                (f"{title}, {size} pixels", *shares, f"{one['cosine']['mean']:.4f}", f"{one['cosine']['smallest']:.4f}")
            )
    head = ("recall@1, %", "exact", "by the shortcut", "queries by it, exact gallery", "mean cosine", "smallest cosine")
    return table(head, rows)


def one_search_table(found: dict[str, Any]) -> str:
    kinds = [kind for kind in found["now"]["processor milliseconds a search"] if kind not in ("other threads", "all")]
    rows = [
        (
            name,
            f"{one['milliseconds']['p50']:.1f}",
            f"{one['processor milliseconds a search']['all']:.1f}",
            *(f"{one['processor milliseconds a search'][kind]:.1f}" for kind in kinds),
        )
        for name, one in ((name, found[name]) for name in ("before", "now"))
    ]
    return table(("one search by picture", "p50, ms", "of a processor, ms", *kinds), rows)


def ways_table(found: dict[str, Any]) -> str:
    kinds = list(next(iter(found["ways"].values()))["processor milliseconds a search"])
    rows = [
        (name, *(f"{one['p50, ms'][which]:.1f}" for which in ("least", "median")),
         *(f"{one['processor milliseconds a search'][kind]:.1f}" for kind in kinds))
        for name, one in found["ways"].items()
    ]  # fmt: skip
    titles = ["of a processor, ms" if kind == "all" else kind for kind in kinds]
    return table(("one search by picture", "p50 at best, ms", "p50, ms", *titles), rows)


def command_line_table(found: dict[str, Any]) -> str:
    rows = [
        (
            f"`{verb}`",
            *(f"{figures['seconds'][name]:.2f}" for name in ("before", "now")),
            f"{figures['times as fast']:.1f}",
            *(f"{figures['seconds of a processor'][name]:.2f}" for name in ("before", "now")),
        )
        for verb, figures in found["verbs"].items()
    ]
    return table(("verb", "before, s", "now, s", "times as fast", "of a processor, before", "now"), rows)


def gpu_extraction_table(found: dict[str, Any]) -> str:
    ways = ("float32", "TF32", "bf16")
    rows = [
        (
            network, f"{figures['GFLOP an image']:.2f}", *(spaced(figures[way]["images per second"]) for way in ways),
            *(f"{figures[way]['TFLOP/s']:.1f}" for way in ways), f"{figures['bf16']['smallest cosine']:.5f}",
        )
        for network, figures in found.items() if network != "ceilings"
    ]  # fmt: skip
    most = found["ceilings"]
    rows.append(("a product of 8192 × 8192", "", "", "", "", *(f"{most[f'{way}, TFLOP/s']:.0f}" for way in ways), ""))
    head = (
        "network", "GFLOP an image", *(f"{way}, images/s" for way in ways), *(f"{way}, TFLOP/s" for way in ways),
        "smallest cosine of bf16",
    )  # fmt: skip
    return table(head, rows)


def gpu_work_table(found: dict[str, Any]) -> str:
    learned = [
        (name, f"{figures['ms a step']:.1f}", "", "", f"{figures['memory, GiB']:.1f}")
        for name, figures in found["learning"].items()
    ]
    searched = [
        (f"search of a million × 512, {name}", f"{figures['ms']:.1f}", f"{figures['floor, ms']:.1f}", f"{figures['busy, %']}", "")
        for name, figures in found["search"].items() if "floor, ms" in figures
    ]  # fmt: skip
    every = found["search"]["all metrics of 1000 queries"]
    searched.append(("all metrics of 1 000 queries in it", f"{every['ms']:.0f}", "", "", ""))
    return table(
        ("a step of learning, or a search", "ms", "floor, ms", "busy, %", "memory, GiB"), [*learned, *searched]
    )


def tables() -> dict[str, str]:
    """The page's tables by the names of their marks."""
    learning = recorded("training")
    return {
        "one step": step_table(recorded("training_step")),
        "learning": speed_table(learning) + "\n\n" + runs_table(learning),
        "methods": methods_table(recorded("methods")),
        "growth": growth_table(recorded("growth")),
        "runtimes": runtimes_table(recorded("runtimes"))
        + "\n\n"
        + indexing_table(recorded("indexing"))
        + "\n\n"
        + parts_of_index_table(recorded("indexing")),
        "frozen": frozen_table(recorded("frozen")),
        "shortcuts": shortcuts_table(recorded("shortcuts")),
        "one search": one_search_table(recorded("serving_alone")),
        "ways of one search": ways_table(recorded("serving_ways")),
        "peers": peers_table(recorded("peers-100000-128")),
        "beside the engine": beside_engine_table(recorded("peers_some-100000-128")),
        "beside the engine, 512 dimensions": beside_engine_table(recorded("peers_some-100000-512")),
        "metrics": metrics_table(recorded("metrics")),
        "command line": command_line_table(recorded("command_line")),
        "extraction on a GPU": gpu_extraction_table(recorded("gpu_extraction")),
        "work on a GPU": gpu_work_table(recorded("gpu")),
    }


def main() -> None:
    for name, text in tables().items():
        write_between(PAGE, name, text)


if __name__ == "__main__":
    main()

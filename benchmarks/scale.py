"""What 10⁷ to 10⁹ items take, from what was measured at up to a million: the tables of ``docs/scale.md``.

Nothing is measured here. Every unit cost is read from a result file beside this script, and is said with its file; what follows
from it is arithmetic. With the defaults the tables of the page are written; whoever gives costs of their own sees their tables
printed, and the page stays as it is.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common import DOCS, record, recorded, spaced, table, wrapped, write_between

PAGE = DOCS / "scale.md"
MEASURED_DIMENSION = 128
LARGEST = "1000000"
"""Items of the largest gallery that was measured."""
LEFT_AFTER_DELETING = 0.9
"""The bytes of a compacted gallery were divided by what was left after a tenth had been deleted, whose room was still taken."""
PRECISIONS = ("float32", "float16", "int8")
NETWORKS = (
    "resnet20, 32 pixels, PNG 32 × 32",
    "resnet18, 128 pixels, photographs",
    "resnet18, 224 pixels, photographs",
)
TWO_CORES = 2
"""Which the server that looked at pictures had."""
SHARES = (0.0, 0.25, 0.5, 1.0)
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """What a reader may know better.

    Attributes:
        items: sizes of the gallery.
        dimension: of the vectors.
        network: of ``NETWORKS``, by which images are extracted.
        images_per_second: of one device; by default as this network was measured on two cores.
        price_per_hour: of a device, in any currency; no price is shown without it.
        memory_gib: of one machine that searches.
        disk_gib: of one machine that searches.
        cores: of one machine that searches.
        usable: share of memory and disk that vectors may take.
    """

    items: tuple[int, ...] = (10**7, 10**8, 10**9)
    dimension: int = MEASURED_DIMENSION
    network: str = NETWORKS[1]
    images_per_second: float | None = None
    price_per_hour: float | None = None
    memory_gib: float = 128
    disk_gib: float = 2000
    cores: int = 16
    usable: float = 0.75


@dataclass(frozen=True)
class Cost:
    """One unit cost: a figure, what it is, and the result file that it comes from."""

    value: float
    unit: str
    file: str
    what: str


def unit_costs() -> dict[str, Cost]:
    """All that is built on, from the committed results."""
    small, million = recorded("gallery"), recorded("gallery_million")[LARGEST]
    precision = recorded("gallery_precision")["clustered, 128-d"]
    engines, extraction, serving = recorded("engines-100000"), recorded("extraction"), recorded("serving")
    loaded = million["loaded"]["disk_bytes_per_item"]
    compacted = million["compacted"]["disk_bytes_per_item"] * LEFT_AFTER_DELETING
    memory = {name: mib * 2**20 / int(LARGEST) for name, mib in million["memory_mib"].items()}
    kept = {name: precision[name]["bytes_per_vector"] for name in PRECISIONS}
    pictures = serving["by_clients"]["16"]["together"]["requests_per_second"]
    return {
        **{
            f"vector, {name}": Cost(
                kept[name]["kept"] / MEASURED_DIMENSION, "bytes a dimension", "gallery_precision", f"a vector in {name}"
            )
            for name in PRECISIONS
        },
        "beside, int8": Cost(
            kept["int8"]["searched beside"] - MEASURED_DIMENSION, "bytes", "gallery_precision",
            "what a vector in 8 bits, one byte a dimension, has beside it",
        ),
        "beside": Cost(
            loaded - kept["float32"]["kept"], "bytes", "gallery_million",
            "id, label, address, hash, metadata, and what the engine keeps of an item",
        ),
        "index": Cost(compacted - loaded, "bytes", "gallery_million", "the index's links of a vector"),
        "own memory": Cost(memory["own"], "bytes", "gallery_million", "memory of the process's own for an item"),
        "mapped memory": Cost(memory["mapped"], "bytes", "gallery_million", "of files that it maps"),
        **{
            f"PostgreSQL, {name}": Cost(
                engines["bytes_per_item"][f"postgres {name}"], "bytes", "engines-100000", f"an item in PostgreSQL, {name}"
            )
            for name in PRECISIONS[:2]
        },
        "loading": Cost(small["100000"]["load"]["items_per_s"], "items/s", "gallery", "written, synced, one process"),
        "exact": Cost(
            million["exact"]["no filter"]["single"]["ms"] * 1e6 / int(LARGEST), "ns", "gallery_million",
            "exact search, for each vector that is there",
        ),
        "by index": Cost(
            million["index"]["no filter"]["single"]["ms"], "ms", "gallery_million", "search by the index of a million"
        ),
        "building": Cost(
            million["compact_s"] / 60, "minutes", "gallery_million", "building the index of a million, one thread"
        ),
        "recall of the index": Cost(
            million["index"]["no filter"]["recall@10"], "", "gallery_million", "recall@10 of that index, no filter"
        ),
        "recall in half of the labels": Cost(
            million["index"]["half of the labels"]["recall@10"], "", "gallery_million", "the same among half of the labels"
        ),
        "pictures": Cost(pictures, "pictures/s", "serving", "asked for by 16 clients, ResNet-18 at 128 pixels, two cores"),
        **{
            name: Cost(extraction[name]["images_per_second"]["index"], "images/s", "extraction", f"indexed, {name}")
            for name in NETWORKS
        },
    }  # fmt: skip


def bytes_of_item(costs: dict[str, Cost], precision: str, dimension: int) -> dict[str, float]:
    """Bytes of an item in the embedded engine: each part, all of them on disk, and all of them in memory."""
    value = {name: cost.value for name, cost in costs.items()}
    vector = value[f"vector, {precision}"] * dimension
    coarse = dimension + value["beside, int8"] if precision == "int8" else 0.0
    measured = value["vector, float32"] * MEASURED_DIMENSION
    return {
        "vector": vector + coarse,
        "beside": value["beside"],
        "index": value["index"],
        "disk": vector + coarse + value["beside"] + value["index"],
        "memory": value["own memory"] + value["mapped memory"] - measured + vector + coarse,
    }


def machines(case: Case, each: dict[str, float], items: int) -> dict[str, int]:
    """Machines that hold so many items: all of it in memory, and on disk with every item's new vector beside the old one."""
    memory = items * each["memory"] / (case.usable * case.memory_gib * GIB)
    disk = 2 * items * each["disk"] / (case.usable * case.disk_gib * GIB)
    return {"in memory": math.ceil(memory), "on disk": math.ceil(disk)}


def rate_of(case: Case, costs: dict[str, Cost]) -> float:
    """Images a second of one device."""
    return costs[case.network].value if case.images_per_second is None else case.images_per_second


def computed(case: Case, costs: dict[str, Cost]) -> dict[str, Any]:
    """Everything that the tables say, by size of the gallery."""
    rate = rate_of(case, costs)
    curve = recorded("mixed_gallery")
    recall = dict(zip(curve["shares"], curve["curves"]["evergreen"]["random"]["probability"]["recall@1"], strict=True))
    found: dict[str, Any] = {}
    for items in case.items:
        each = {precision: bytes_of_item(costs, precision, case.dimension) for precision in PRECISIONS}
        held = {precision: machines(case, each[precision], items) for precision in PRECISIONS}
        shards = math.ceil(items / int(LARGEST))
        cores = max(1, held["float32"]["in memory"]) * case.cores
        by_index, exact = shards * costs["by index"].value, items * costs["exact"].value / 1e6
        found[str(items)] = {
            "bytes": {precision: {part: items * size for part, size in each[precision].items()} for precision in each},
            "machines": held,
            "device_hours": {name: items / costs[name].value / 3600 for name in NETWORKS},
            "refresh": {
                str(share): {
                    "device_hours": share * items / rate / 3600,
                    "device_hours_saved": (1 - share) * items / rate / 3600,
                    "more_bytes_until_committed": share * items * each["float32"]["disk"],
                    "writing_hours": share * items / costs["loading"].value / 3600,
                    "index_core_hours": math.ceil(share * shards) * costs["building"].value / 60,
                    "recall@1_of_the_benchmark": recall[share],
                }
                for share in SHARES
            },
            "search": {
                "shards": shards,
                "cores": cores,
                "exact_core_ms": exact,
                "exact_ms": exact / cores,
                "index_core_ms": by_index,
                "index_ms": math.ceil(shards / cores) * costs["by index"].value,
                "index_queries_per_second": 1000 * cores / by_index,
                "pictures_per_second": costs["pictures"].value * cores / TWO_CORES,
                "building_core_hours": shards * costs["building"].value / 60,
                "building_hours": math.ceil(shards / cores) * costs["building"].value / 60,
            },
        }
    return found


def size(value: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def number(value: float) -> str:
    """A figure with two or three digits that mean something, thousands apart."""
    if value == 0 or (isinstance(value, int) and value < 10_000):
        return f"{value:.0f}"
    if value >= 100:
        return spaced(round(value, 2 - math.floor(math.log10(value))))
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def power(items: int) -> str:
    """A number of items, as a power of ten where it is one."""
    exponent = round(math.log10(items))
    return (
        f"10{str(exponent).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
        if items == 10**exponent
        else f"{items:,}"
    )


def costs_table(costs: dict[str, Cost]) -> str:
    rows = [
        (
            cost.what,
            f"{number(cost.value)} {cost.unit}".strip(),
            f"[{cost.file}](../benchmarks/results/{cost.file}.json)",
        )
        for cost in costs.values()
    ]
    return "### What one of each costs\n\n" + table(("what", "figure", "from"), rows)


def bytes_table(case: Case, costs: dict[str, Cost], found: dict[str, Any]) -> str:
    each = {precision: bytes_of_item(costs, precision, case.dimension) for precision in PRECISIONS}
    rows = [
        (
            precision,
            *(f"{each[precision][part]:.0f}" for part in ("vector", "beside", "index")),
            *(size(figures["bytes"][precision]["disk"]) for figures in found.values()),
        )
        for precision in PRECISIONS
    ]
    for name in PRECISIONS[:2]:
        wider = costs[f"vector, {name}"].value * (case.dimension - MEASURED_DIMENSION)
        item = costs[f"PostgreSQL, {name}"].value + wider
        rows.append((f"PostgreSQL, {name}", "", "", "", *(size(items * item) for items in case.items)))
    return (
        f"### Bytes\n\n{case.dimension} dimensions; an item is its vector, what lies beside it, and its part of the index.\n\n"
        + table(("", "vector", "beside it", "index", *(f"{power(items)} on disk" for items in case.items)), rows)
    )


def machines_table(case: Case, found: dict[str, Any]) -> str:
    ways = ("in memory", "on disk")
    rows = [
        (precision, *(str(figures["machines"][precision][way]) for figures in found.values() for way in ways))
        for precision in PRECISIONS
    ]
    return (
        f"### Machines\n\nOf {case.memory_gib:g} GiB of memory, {case.disk_gib:g} GiB of disk and {case.cores} cores; "
        f"vectors may take {100 * case.usable:.0f} %. *In memory*: all that a search reads stays there. *On disk*: the least "
        f"that holds a new vector beside every old one; searches wait for the disk.\n\n"
        + table(("", *(f"{power(items)}, {way}" for items in case.items for way in ways)), rows)
    )


def extraction_table(case: Case, costs: dict[str, Cost], found: dict[str, Any]) -> str:
    rows = [
        (name, number(costs[name].value), *(number(figures["device_hours"][name]) for figures in found.values()))
        for name in NETWORKS
    ]
    return (
        "### Extracting everything again\n\nHours of one device, two cores. A generation that "
        "searches the old vectors saves them.\n\n" + table(("network", "images/s", *map(power, case.items)), rows)
    )


def refresh_tables(case: Case, costs: dict[str, Cost], found: dict[str, Any]) -> str:
    price = case.price_per_hour
    head = (
        "refreshed", "device hours", "saved", "more on disk until `--commit`", "hours of writing by one process",
        "core hours of building its index", "recall@1 of the benchmark",
    )  # fmt: skip

    def hours(value: float) -> str:
        return number(value) + ("" if price is None else f" ({number(value * price)})")

    def row(share: str, figures: dict[str, float]) -> tuple[str, ...]:
        return (
            f"{100 * float(share):.0f} %",
            hours(figures["device_hours"]),
            hours(figures["device_hours_saved"]),
            size(figures["more_bytes_until_committed"]) if figures["more_bytes_until_committed"] else "0",
            number(figures["writing_hours"]),
            number(figures["index_core_hours"]),
            f"{100 * figures['recall@1_of_the_benchmark']:.1f}",
        )

    whence = "measured on two cores" if case.images_per_second is None else "given, not measured here"
    money = "" if price is None else f", in brackets at {price:g} an hour"
    parts = [
        f"### A refresh of a part\n\n{case.network}: {number(rate_of(case, costs))} images/s, {whence}. Hours are of one "
        f"device{money}.",
        *(
            f"{power(items)} items:\n\n" + table(head, [row(*share) for share in figures["refresh"].items()])
            for items, figures in zip(case.items, found.values(), strict=True)
        ),
    ]
    return "\n\n".join(parts)


def search_table(case: Case, costs: dict[str, Cost], found: dict[str, Any]) -> str:
    names = {
        "shards": "shards",
        "cores": "cores",
        "exact_core_ms": "exact search, core milliseconds",
        "exact_ms": "exact search, ms",
        "index_core_ms": "by the indexes, core milliseconds",
        "index_ms": "by the indexes, ms",
        "index_queries_per_second": "queries a second by the indexes, all cores",
        "pictures_per_second": "pictures a second that all cores could look at instead",
        "building_core_hours": "building all indexes, core hours",
        "building_hours": "building all indexes, hours on all cores",
    }
    rows = [(name, *(number(figures["search"][key]) for figures in found.values())) for key, name in names.items()]
    return (
        f"### Searching\n\nShards of a million, the largest that was measured, on as many machines as hold float32 in memory; "
        f"each core searches its shards one after another. Times are of {MEASURED_DIMENSION} dimensions. recall@10 of a "
        f"shard's index: "
        f"{100 * costs['recall of the index'].value:.1f} %, and "
        f"{100 * costs['recall in half of the labels'].value:.1f} % among half of the labels.\n\n"
        + table(("", *map(power, case.items)), rows)
    )


def growth_table() -> str:
    """Searching as a gallery grows, up to where it was measured."""
    sizes = {int(items): figures for items, figures in recorded("gallery").items() if items.isdigit()}
    sizes[int(LARGEST)] = recorded("gallery_million")[LARGEST]
    rows = [
        (name, *(number(figures[way]["no filter"]["single"]["ms"]) for figures in sizes.values()))
        for name, way in (("exact search, ms", "exact"), ("by the index, ms", "index"))
    ]
    rows.append(("building the index, minutes", *(number(figures["compact_s"] / 60) for figures in sizes.values())))
    rows.append(("opening, s", *(number(figures["compacted"]["open_s"]) for figures in sizes.values())))
    return (
        f"### As a gallery grows, measured\n\nOne query at a time, {MEASURED_DIMENSION} dimensions, one shard "
        f"([gallery](../benchmarks/results/gallery.json), [gallery_million](../benchmarks/results/gallery_million.json)).\n\n"
        + table(("", *map(spaced, sizes)), rows)
    )


def tables(case: Case, costs: dict[str, Cost]) -> str:
    """The generated part of the page."""
    found = computed(case, costs)
    parts = "\n\n".join(
        [
            costs_table(costs),
            bytes_table(case, costs, found),
            machines_table(case, found),
            extraction_table(case, costs, found),
            refresh_tables(case, costs, found),
            growth_table(),
            search_table(case, costs, found),
        ]
    )
    return wrapped(parts)


def arguments(given: Sequence[str] | None = None) -> Case:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Case()
    parser.add_argument("--items", type=int, nargs="+", default=list(usual.items))
    parser.add_argument("--dimension", type=int, default=usual.dimension)
    parser.add_argument("--network", choices=NETWORKS, default=usual.network)
    parser.add_argument("--images-per-second", type=float, help="of one device of yours")
    parser.add_argument("--price-per-hour", type=float, help="of one device")
    parser.add_argument("--memory-gib", type=float, default=usual.memory_gib, help="of one machine that searches")
    parser.add_argument("--disk-gib", type=float, default=usual.disk_gib)
    parser.add_argument("--cores", type=int, default=usual.cores)
    parser.add_argument("--usable", type=float, default=usual.usable, help="share of both that vectors may take")
    options = vars(parser.parse_args(given))
    case = Case(**{**options, "items": tuple(options["items"])})
    positive = {name: value for name, value in asdict(case).items() if isinstance(value, (int, float)) and value <= 0}
    if positive or min(case.items) < 1 or case.usable > 1:
        parser.error("Numbers must be above zero, and --usable at most 1.")
    return case


def main() -> None:
    case, costs = arguments(), unit_costs()
    if case != Case():
        print(tables(case, costs))
        return
    write_between(PAGE, "tables of scale.py", tables(case, costs))
    record(
        "scale",
        {
            "case": asdict(case),
            "unit_costs": {name: asdict(cost) for name, cost in costs.items()},
            "by_items": computed(case, costs),
        },
    )


if __name__ == "__main__":
    main()

"""An upgrade of a hundred million items, day by day, by several policies, driven by what was measured.

Every item is there: one byte says in what state it is, one how often it was extracted, one how doubtful it is. Each day new items
arrive, the devices of the day walk over the states in blocks, take items that still have an old vector, extract them and lose
now and then a device with the batch that it had in hand, which goes back. At the end each item's count is compared with its
state: none was lost, none was extracted twice but those of a lost batch.

What is measured: images a second of a device (``extraction.json``), and recall@1 as a function of the share of new vectors and of
the order in which they came (``mixed_gallery.json``: the mean of three seeds on generated characters, ranked by calibrated
probability). What is assumed are the arguments: devices, hours a day, arrivals, losses.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import DOCS, record, recorded, spaced, table, wrapped, write_between
from evergallery.benchmark.plots import INK, MUTED, PALETTE, settings_of_plots

PAGE = DOCS / "scale.md"
PICTURE = DOCS / "upgrade-simulation.svg"
RATE_OF = "resnet18, 128 pixels, photographs"
OLD, IN_HAND, NEW = 0, 1, 2
BLOCK = 2**20
BATCH = 256
"""Images that a device has in hand, as indexing has them at 128 pixels."""
STRATA = 16
"""Groups of equally doubtful items, refreshed one after another where the order is not random."""


@dataclass(frozen=True)
class SimulationSetup:
    """What is the same for every policy.

    Attributes:
        items: in the gallery on the first day, all with old vectors.
        days: that are simulated.
        arrivals: new items a day.
        devices: that extract.
        hours: a day that each of them has for it.
        losses: probability that a device is lost on a day, at a moment of its hours, with the batch in hand.
        images_per_second: of a device; by default as measured.
        price_per_hour: of a device; no price is shown without it.
        seed: of arrivals' doubtfulness and of losses.
    """

    items: int = 10**8
    days: int = 40
    arrivals: int = 200_000
    devices: int = 4
    hours: float = 8.0
    losses: float = 0.1
    images_per_second: float | None = None
    price_per_hour: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Policy:
    """One way to a new model.

    Attributes:
        title: for tables.
        update: whose curve of ``mixed_gallery.json`` holds.
        order: in which items are refreshed; ``None`` refreshes none.
        at_once: whether the new model answers from the first day; otherwise once nothing has an old vector.
    """

    title: str
    update: str
    order: str | None
    at_once: bool


POLICIES = (
    Policy("extract all, then switch", "evergreen", "random", at_once=False),
    Policy("the same, a model of all old images", "joint+procrustes", "random", at_once=False),
    Policy("switch at once, never refresh", "evergreen", None, at_once=True),
    Policy("switch at once, refresh at random", "evergreen", "random", at_once=True),
    Policy("switch at once, refresh uncertain first", "evergreen", "uncertain", at_once=True),
    Policy("switch at once, refresh typical first", "evergreen", "typical", at_once=True),
)


class Gallery:
    """The states of all items, in three bytes each; room for those that are to arrive.

    Args:
        world: how many.
        order: in which items with old vectors are taken: ``random`` walks from the first to the last, which ids that are
            hashes make a random order; others begin with one end of doubtfulness.
    """

    def __init__(self, world: SimulationSetup, order: str | None) -> None:
        room = world.items + world.days * world.arrivals
        draw = np.random.default_rng(world.seed)
        self.there = world.items
        self.state = np.zeros(room, np.uint8)
        self.extracted = np.zeros(room, np.uint8)
        self.doubt = np.empty(room, np.uint8)
        strata = 1 if order in (None, "random") else STRATA
        for start in range(0, room, BLOCK):
            block = self.doubt[start : start + BLOCK]
            block[:] = draw.integers(0, strata, len(block), np.uint8)
        self.new = 0
        self._turns = list(range(strata)) if order == "typical" else list(range(strata))[::-1]
        self._given_back: list[NDArray[np.int64]] = []
        self._walk = self._waiting()

    def arrive(self, count: int, *, new: bool) -> None:
        """Add items whose only vector is a new one, or an old one."""
        added = slice(self.there, self.there + count)
        if new:
            self.state[added] = NEW
            self.extracted[added] += 1
            self.new += count
        self.there += count

    def take(self, count: int) -> NDArray[np.int64]:
        """The next items with an old vector, at most so many; they are in hand until they are done or given back."""
        parts: list[NDArray[np.int64]] = []
        from_the_first = False
        while count > 0:
            rows = self._given_back.pop() if self._given_back else next(self._walk, None)
            if rows is None:
                if from_the_first:
                    break
                # Items may have arrived behind the end of the walk.
                self._walk, from_the_first = self._waiting(), True
                continue
            if len(rows) > count:
                self._given_back.append(rows[count:])
                rows = rows[:count]
            # At once, because a walk that begins again must not come to them.
            self.state[rows] = IN_HAND
            parts.append(rows)
            count -= len(rows)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def done(self, rows: NDArray[np.int64]) -> None:
        """These have a new vector, acknowledged."""
        self.state[rows] = NEW
        self.extracted[rows] += 1
        self.new += len(rows)

    def give_back(self, rows: NDArray[np.int64]) -> None:
        """These were in the hand of a device that is lost."""
        self.state[rows] = OLD
        self._given_back.append(rows)

    def _waiting(self) -> Iterator[NDArray[np.int64]]:
        """All items with an old vector, block by block, as they are when their block is come to."""
        for turn in self._turns:
            start = 0
            while start < self.there:
                end = min(start + BLOCK, self.there)
                mine = (self.state[start:end] == OLD) & (self.doubt[start:end] == turn)
                yield start + np.flatnonzero(mine)
                start = end

    def problems(self) -> list[str]:
        """What is wrong with the books, a sentence each."""
        found = []
        counts = np.zeros((3, 256), np.int64)
        for start in range(0, self.there, BLOCK):
            rows = slice(start, min(start + BLOCK, self.there))
            for state in (OLD, IN_HAND, NEW):
                counts[state] += np.bincount(self.extracted[rows][self.state[rows] == state], minlength=256)
        if counts[IN_HAND].any():
            found.append(f"{counts[IN_HAND].sum()} items are in nobody's hand.")
        if counts[OLD, 1:].any():
            found.append(f"{counts[OLD, 1:].sum()} new vectors were lost.")
        if counts[NEW, 0] or counts[NEW, 2:].any():
            found.append(f"{counts[NEW, 0]} items were never extracted and {counts[NEW, 2:].sum()} more than once.")
        if counts[NEW].sum() != self.new:
            found.append(f"{self.new} new vectors were counted and {counts[NEW].sum()} are there.")
        return found


def rate_of(world: SimulationSetup) -> float:
    """Images a second of a device."""
    if world.images_per_second is not None:
        return world.images_per_second
    return float(recorded("extraction")[RATE_OF]["images_per_second"]["index"])


def recall_at(policy: Policy, curves: dict[str, Any], share: float, *, serves: bool) -> float:
    """recall@1 of the day, between the measured shares by straight lines."""
    if not serves:
        return float(curves["first generation alone"][policy.update])
    # Without a refresh new vectors are those of new items, which are like the others.
    curve = curves["curves"][policy.update][policy.order or "random"]["probability"]["recall@1"]
    return float(np.interp(share, curves["shares"], curve))


def simulate(world: SimulationSetup, policy: Policy, curves: dict[str, Any]) -> dict[str, Any]:
    """Day by day; the policy's row of the table; what was wrong with the books."""
    draw = np.random.default_rng(world.seed)
    gallery = Gallery(world, policy.order)
    per_hour = 3600 * rate_of(world)
    serves = policy.at_once
    hours = wasted = lost = 0.0
    days: list[dict[str, float]] = []
    switched = 0 if serves else None
    for day in range(world.days):
        # Losses are drawn whatever the policy, so that all have the same ones.
        lost_at = np.where(draw.random(world.devices) < world.losses, draw.random(world.devices), 1.0)
        # The model that answers gives new items their vectors; while that is the old one, they wait for another.
        gallery.arrive(world.arrivals, new=serves)
        hours += world.arrivals / per_hour
        if policy.order is not None and gallery.new < gallery.there:
            for share in lost_at:
                rows = gallery.take(int(share * world.hours * per_hour))
                in_hand = rows[len(rows) - BATCH :] if share < 1 else rows[:0]
                gallery.done(rows[: len(rows) - len(in_hand)])
                gallery.give_back(in_hand)
                lost += share < 1
                wasted += len(in_hand)
                hours += len(rows) / per_hour
        if not serves and gallery.new == gallery.there:
            serves, switched = True, day + 1
        share = gallery.new / gallery.there
        days.append(
            {
                "day": day + 1,
                "share_new": round(share, 6),
                "recall@1": round(recall_at(policy, curves, share, serves=serves), 4),
                "device_hours": round(hours, 2),
            }
        )
    recalls = [day["recall@1"] for day in days]
    return {
        "policy": asdict(policy),
        "days_until_the_new_model_serves": switched,
        "days_until_no_vector_is_old": next((day["day"] for day in days if day["share_new"] == 1), None),
        "mean_recall": round(float(np.mean(recalls)), 4),
        "lowest_recall": min(recalls),
        "last_recall": recalls[-1],
        "device_hours": days[-1]["device_hours"],
        "devices_lost": int(lost),
        "images_extracted_again": int(wasted),
        "problems": gallery.problems(),
        "days": days,
    }


def summary(world: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """The generated part of the page, from a result file."""
    price = world["price_per_hour"]

    def row(result: dict[str, Any]) -> tuple[str, ...]:
        served, renewed = result["days_until_the_new_model_serves"], result["days_until_no_vector_is_old"]
        hours = result["device_hours"]
        return (
            result["policy"]["title"],
            "at once" if served == 0 else "not yet" if served is None else f"day {served}",
            "–" if renewed is None else f"day {renewed}",
            *(f"{100 * result[name]:.1f}" for name in ("mean_recall", "lowest_recall", "last_recall")),
            f"{hours:.0f}" + ("" if price is None else f" ({hours * price:.0f})"),
        )

    head = ("policy", "new model answers", "no old vector left", "recall@1, mean", "lowest", "last day", "device hours")
    first, rate = results[0], world["images_per_second"]
    again = max(result["images_extracted_again"] for result in results)
    devices = max(result["devices_lost"] for result in results)
    return wrapped(
        f"{spaced(world['items'])} items and {spaced(world['arrivals'])} new ones a day; {world['devices']} devices of {rate:g} "
        f"images/s, {world['hours']:g} hours a day; each is lost with a probability of {world['losses']:g} a day; "
        f"{len(first['days'])} days.\n\n"
        + table(head, [row(result) for result in results])
        + f"\n\n![recall day by day]({PICTURE.name})\n\n"
        + f"At most {devices} devices were lost, and {spaced(again)} images extracted again. The books of all items agreed."
    )


def draw_picture(world: SimulationSetup, results: Sequence[dict[str, Any]], path: Path) -> None:
    """recall@1 day by day, above device hours day by day."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(settings_of_plots()):
        figure, (recall, hours) = plt.subplots(
            2, 1, figsize=(7.2, 5.6), layout="constrained", sharex=True, height_ratios=(3, 1)
        )
        # Broad first, so that what is drawn over a line leaves it to be seen.
        for colour, width, result in zip(PALETTE, (4, 3, 2, 2, 2, 2), results, strict=False):
            days = [day["day"] for day in result["days"]]
            line: Any = {"color": colour, "linewidth": width}
            recall.step(days, [100 * day["recall@1"] for day in result["days"]], where="post", **line)
            hours.plot(days, [day["device_hours"] for day in result["days"]], label=result["policy"]["title"], **line)
        recall.set(ylabel="recall@1 (%)")
        recall.set_title(f"{world.items:.0e} items".replace("e+0", "e"), color=MUTED, fontsize=8, loc="left")
        hours.set(xlabel="day", ylabel="device hours", xlim=(1, world.days))
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = SimulationSetup()
    for name in ("items", "days", "arrivals", "devices", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    for name in ("hours", "losses", "images_per_second", "price_per_hour"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(usual, name))
    world = SimulationSetup(**vars(parser.parse_args()))
    if min(world.items, world.days, world.devices) < 1 or world.arrivals < 0 or not 0 <= world.losses <= 1:
        parser.error("There must be an item, a day and a device at least, and --losses is a probability.")
    curves = recorded("mixed_gallery")
    began = time.perf_counter()
    results = [simulate(world, policy, curves) for policy in POLICIES]
    seconds = time.perf_counter() - began
    assert not any(result["problems"] for result in results), [result["problems"] for result in results]
    described = {**asdict(world), "images_per_second": rate_of(world)}
    if world != usual:
        print(summary(described, results))
        return
    record(
        "upgrade_simulation",
        {"world": described, "seconds": round(seconds, 1), "policies": results},
        seed=world.seed,
    )
    draw_picture(world, results, PICTURE)
    write_between(PAGE, "tables of upgrade_simulation.py", summary(described, results))


if __name__ == "__main__":
    main()

"""The part of a report that needs no held-out image: where things stand, the lineage, earlier checks, what was done."""

import re
from collections.abc import Mapping
from typing import Any

from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import size_text
from evergallery.errors import StoredFileError
from evergallery.generations.card import KINDS, Card
from evergallery.holdings.holdings import Holdings
from evergallery.report.lineage import lineage_rows
from evergallery.report.words import counted, duration, interval_of, listed, moment
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.figures import interval_in_percent, interval_in_points
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.kept_evidence import read_check
from evergallery.upgrade.overview import log, status

ENTRIES_SHOWN = 30
LANE = 22

LABELS = {"refused": "the gate said"}
"""Names of figures in the log that say something else to whoever reads them."""


def label_of(name: str) -> str:
    """Return how a figure of the log is called where somebody reads it."""
    return LABELS.get(name, name.replace("_", " "))


def shortened(value: Any) -> Any:
    """A hash as it is told apart, by its beginning; anything else as it is."""
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value) else value


def standing(holdings: Holdings) -> dict[str, Any]:
    """Items by space and state, the open refresh, problems, what runs."""
    found = status(holdings)
    sentences = []
    if found.promoted:
        sentences.append(f"{found.promoted} answers queries; {counted(found.generations, 'generation')} in all.")
    if found.forced:
        sentences.append(f"It was promoted against the gate: {found.forced}")
    if found.spaces is None:
        sentences.append("The gallery is in use by another process, so that its items could not be counted.")
    elif not found.spaces:
        sentences.append("The gallery is empty: fill it with  evergallery index IMAGES")
    else:
        total = sum(space.items for space in found.spaces)
        served = sum(space.items for space in found.spaces if space.state in ("current", "compatible"))
        sentences.append(f"It may search {served} of {counted(total, 'stored item')}.")
        waiting = [space.name for space in found.spaces if space.state == "needs refresh"]
        if waiting:
            sentences.append(f"Those of {listed(waiting)} have to be refreshed, or shown to be compatible by a check.")
    if found.refresh:
        refresh = found.refresh
        left = (
            ""
            if refresh.seconds_left is None or not refresh.remaining
            else f", about {duration(refresh.seconds_left)} for the rest"
        )
        seen = "searches use the new vectors" if refresh.shown else f"they wait for {refresh.waiting}"
        sentences.append(
            f"{refresh.id}, a refresh for {refresh.generation}, is open: {refresh.refreshed} done, {refresh.remaining} to "
            f"go{left}; {seen}."
        )
    sentences += [f"{counted(count, 'item')} could not be refreshed: {kind}." for kind, count in found.problems.items()]
    sentences += [f"Running now: {who}" for who in found.running]
    return {"sentences": sentences, "spaces": found.spaces or ()}


def lineage(holdings: Holdings) -> dict[str, Any]:
    """Every generation with its place in the graph, and the adapters between them."""
    cards = [generation.card for generation in holdings.generations()]
    rows = lineage_rows({card.name: card.parent for card in cards})
    width = 1 + max((row.lane for row in rows), default=0)
    promoted = holdings.state.promoted
    adapters = [stored.card for stored in holdings.adapters()]
    return {
        "width": width * LANE,
        "generations": [
            {
                "row": row,
                "x": _centre(row.lane),
                "through": [_centre(lane) for lane in row.through],
                "branch": None if row.branch is None else _centre(row.branch),
                "name": card.name,
                "promoted": card.name == promoted,
                "origin": _origin(card),
                "facts": _facts(card),
                "details": _details(card),
            }
            for row, card in zip(rows, cards, strict=True)
        ],
        "adapters": [
            (
                card.name,
                card.source.name,
                card.target.name,
                card.kind,
                "queries" if card.direction == "query" else "stored vectors",
            )
            for card in adapters
        ],
        "sentence": _descent(cards),
    }


def earlier_checks(holdings: Holdings) -> dict[str, Any]:
    """Return what every check so far has left behind, newest first."""
    rows, damaged = [], []
    confidence = gate_of(holdings).confidence
    folder = holdings.directory / "checks"
    for path in sorted(folder.glob("*-in-*.json")) if folder.is_dir() else ():
        try:
            content = read_check(path)
            evidence = Evidence.model_validate(content["adapted"] or content["direct"])
            rows.append(
                {
                    "time": moment(evidence.time),
                    "new": evidence.new,
                    "old": evidence.old,
                    "way": evidence.path(),
                    "verdict": content["verdict"],
                    "reason": content["reason"],
                    "recalls": [
                        interval_in_percent(interval_of(evidence.recall(test), evidence.queries, confidence))
                        for test in ("old self", "cross", "new self")
                    ],
                    "change": interval_in_points(evidence.cross_change),
                    "protocol": f"{evidence.protocol}; {counted(evidence.queries, 'query', 'queries')}",
                }
            )
        except StoredFileError as error:
            damaged.append(str(error).replace(f"{holdings.directory}/", ""))
    rows.sort(key=lambda row: str(row["time"]), reverse=True)
    return {"rows": rows, "damaged": damaged}


def history(holdings: Holdings) -> dict[str, Any]:
    """The last entries of the log, newest first."""
    entries = log(holdings)
    rows = [
        (moment(entry["time"]), entry["who"], operation_of(entry), told(entry)) for entry in entries[-ENTRIES_SHOWN:]
    ]
    return {"rows": rows[::-1], "total": len(entries)}


def operation_of(entry: Mapping[str, Any]) -> str:
    """Return what was done, marked where it was done against the gate."""
    return f"{entry['operation']}{' against the gate' if entry.get('forced') else ''}"


def told(entry: Mapping[str, Any]) -> str:
    """An entry of the log in words, but for when, who and what."""
    return ", ".join(
        f"{label_of(key)} {'; '.join(map(str, value)) if isinstance(value, list) else shortened(value)}"
        for key, value in entry.items()
        if key not in ("time", "who", "operation", "forced") and value not in (None, [], "")
    )


def _centre(lane: int) -> float:
    return (lane + 0.5) * LANE


def _origin(card: Card) -> str:
    if card.kind != "trained":
        return KINDS[card.kind]
    return f"from {card.parent} by {card.method.name}" if card.parent else f"the beginning, by {card.method.name}"


def _facts(card: Card) -> str:
    facts = []
    if card.classes:
        new = len(card.new_classes)
        facts.append(f"{counted(len(card.classes), 'class', 'classes')}, {new} of them new")
    if "training" in card.data:
        facts.append(f"learned from {counted(card.data['training'], 'image')}")
    if "seconds" in card.training:
        facts.append(f"in {duration(card.training['seconds'])}")
    return ", ".join(facts) or f"{card.dimension} dimensions"


def _details(card: Card) -> list[tuple[str, str]]:
    details = [("made", moment(card.created)), ("fingerprint", card.fingerprint)]
    if card.architecture:
        beside = f", beside the root's {card.root.backbone}" if card.root else ""
        details.append(("network", f"{card.architecture.backbone}, neck {card.architecture.neck}{beside}"))
    details.append(("dimensions", str(card.dimension)))
    if "size" in card.preprocessing:
        details.append(
            (
                "input",
                f"{size_text(Preprocessing.from_dict(card.preprocessing).size)} pixels, {card.preprocessing.get('fit', '')}",
            )
        )
    details += [(f"method: {name}", str(value)) for name, value in card.method.parameters.items()]
    details += [(name, str(card.settings[name])) for name in ("epochs", "batch_size") if name in card.settings]
    validation = card.training.get("validation")
    if validation:
        details.append(("validation recall@1, new classes only", f"{100 * validation['recall@1']:.1f} %"))
    if card.memory:
        details.append(("remembers class means of", listed(card.memory)))
    return details


def _descent(cards: list[Card]) -> str:
    if not cards:
        return ""
    roots = [card.name for card in cards if card.parent is None]
    children = [card.name for card in cards if card.parent is not None]
    if not children:
        return f"{listed(roots)} {'has' if len(roots) == 1 else 'have'} learned from no other generation."
    return f"{listed(roots)} {'began' if len(roots) == 1 else 'each began'} a lineage; {listed(children)} learned from a parent."

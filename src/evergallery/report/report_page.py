"""The report on a workspace: one file to look at, to send, to keep beside a decision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery._version import __version__
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import now
from evergallery.report import comparison, standing
from evergallery.report.classes import classes
from evergallery.report.every_metric import every_metric
from evergallery.report.flips import flips
from evergallery.report.measurements import Measurements, choose, measure_held_out
from evergallery.report.page import require_plots, write_page
from evergallery.report.words import counted, listed, moment
from evergallery.upgrade.held_out import HeldOutSource
from evergallery.watching import SILENT, Watcher

FILE = "report.html"
Subject = tuple[str, str | None]
"""Names of the generation in question, and of the one whose vectors it would search, if there is one."""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: of the page.
        findings: what it says in short, a sentence each.
    """

    path: Path
    findings: tuple[str, ...]


def report(
    holdings: Holdings,
    data: str | Path | ImageSet | None = None,
    *,
    path: str | Path | None = None,
    generation: str | None = None,
    against: str | None = None,
    queries: str | None = None,
    gallery: str | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Report:
    """Write one HTML file about this workspace that needs no network; what is measured for it is not remembered.

    Args:
        data: held-out labelled images, as ``check`` takes them; without them nothing is measured, and the page says so.
        path: of the page; ``report.html`` in the workspace by default.
        generation: the one in question; the newest by default.
        against: whose vectors it would search; by default the promoted one's, or where it is the promoted one itself
            its parent's.
        queries: split of the queries.
        gallery: split of the gallery.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        NotFoundError: no such generation.
        InputError: the images cannot be used, or ``against`` is not older than ``generation``.
        MissingExtraError: the extra ``report`` is not installed.
    """
    require_plots("A report")
    target = _target(Path(path) if path is not None else holdings.directory / FILE)
    source = None if data is None else HeldOutSource(data, queries=queries, gallery=gallery, data_dir=data_dir)
    subject, found = _measure(holdings, source, generation, against, watcher)
    watcher.said("writing the report")
    content = _content(holdings, subject, found)
    write_page(target, "report.html", **content)
    return Report(target, tuple(content["findings"]))


def _measure(
    holdings: Holdings, source: HeldOutSource | None, generation: str | None, against: str | None, watcher: Watcher
) -> tuple[Subject | None, Measurements | None]:
    """What the report is about, and what held-out images show of it."""
    for name in (generation, against):
        if name is not None:
            holdings.generation(name)
    if not holdings.generations():
        return None, None
    candidate, base = choose(holdings, generation, against)
    subject = candidate.name, base.name if base else None
    return subject, None if source is None else measure_held_out(holdings, source, candidate, base, watcher)


def _content(holdings: Holdings, subject: Subject | None, found: Measurements | None) -> dict[str, Any]:
    """What the page's template shows."""
    where = standing.standing(holdings)
    sections = _sections(found)
    return {
        "name": holdings.directory.resolve().name,
        "made": moment(now()),
        "version": __version__,
        "subject": subject,
        "findings": _findings(where, sections, subject, found),
        "standing": where,
        "lineage": standing.lineage(holdings),
        "sections": sections,
        "missing": _missing(found, subject),
        "protocol": None if found is None else _protocol(found),
        "checks": standing.earlier_checks(holdings),
        "history": standing.history(holdings),
    }


def _target(path: Path) -> Path:
    """Where to write, found out before anything is measured."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file with --out.") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it, such as {path / FILE}.")
    return path


def _sections(found: Measurements | None) -> dict[str, Any]:
    """The sections that could be measured, by name."""
    if found is None:
        return {}
    sections = {"verdict": comparison.verdict(found)} if found.base else {}
    if not found.labelled:
        return sections
    sections |= {
        "matrix": comparison.matrix(found),
        "every_metric": every_metric(found),
        "generations": comparison.generations(found),
        "classes": classes(found),
    }
    if found.base is not None:
        sections |= {
            "trade_off": comparison.trade_off(found),
            "refreshing": comparison.refreshing(found),
            "flips": flips(found),
            "prototypes": comparison.prototypes(found),
        }
    return sections


def _missing(found: Measurements | None, subject: Subject | None) -> str:
    """Why a section is empty, and the command that fills it."""
    if subject is None:
        return "Nothing has been learned yet. Begin with  evergallery learn IMAGES"
    if found is None:
        return (
            "Not measured, because no held-out images were given. Fill this in with  evergallery report --data HELD_OUT"
        )
    if found.base is None:
        return f"{subject[0]} has no older generation beside it. Learn another one with  evergallery learn NEW_IMAGES"
    return "Not measured, because the held-out images have no labels. Fill this in with  evergallery report --data LABELLED"


def _findings(
    where: dict[str, Any], sections: dict[str, Any], subject: Subject | None, found: Measurements | None
) -> list[str]:
    """What the page says in short, a sentence each."""
    findings = list(where["sentences"][:2])
    if "verdict" in sections:
        assert subject is not None
        first, rest = sections["verdict"]["sentences"][:1], sections["verdict"]["sentences"][1:]
        findings += [f"{subject[0]} against {subject[1]}: {words[0].lower()}{words[1:]}" for words in first]
        findings += rest
    for name in ("trade_off", "prototypes"):
        if name in sections:
            findings.append(sections[name]["sentence"])
    if "refreshing" in sections:
        findings.append(sections["refreshing"]["sentences"][0])
    if found is None:
        findings.append(_missing(found, subject))
    return findings


def _protocol(found: Measurements) -> str:
    """On which images, and how, for the foot of the short version."""
    images = found.check.images
    classes = len(set(images.images.labels.tolist()))
    words = f"{counted(len(images.images), 'held-out image')}"
    words += f" of {counted(classes, 'class', 'classes')}, " if found.labelled else ", "
    words += f"{found.check.protocol}."
    if found.check.excluded:
        words += f" {counted(found.check.excluded, 'image')} left out, because a generation had learned from them."
    if found.base and "old" in found.groups:
        words += (
            f" Old classes: the {found.old_classes} that {found.base} has learned; old and new ones are searched apart."
        )
    if found.left_out:
        words += f" {listed(found.left_out)} not measured: only stored vectors of them are known."
    if found.labelled:
        words += (
            f" Figures are recall@1 in percent with intervals of {100 * found.confidence:g} % confidence, from resampling the "
            f"queries; one training of each generation, so that they say nothing of another seed."
        )
    return words + f" Data {images.images.fingerprint()[:12]}."

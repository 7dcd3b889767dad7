"""The report on a workspace: one file to look at, to send, to keep beside a decision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery._version import __version__
from evergallery.data.image_set import ImageSet
from evergallery.files import creation_of, require_place
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import now
from evergallery.report import comparison, standing
from evergallery.report.classes import classes
from evergallery.report.every_metric import every_metric
from evergallery.report.flips import flips
from evergallery.report.kept_check import kept_check, kept_sections
from evergallery.report.measurements import Measurements, choose, measure_held_out
from evergallery.report.page import require_plots, write_page
from evergallery.report.verdict import verdict
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
        data: held-out labelled images, as ``check`` takes them; without them nothing is measured, and the page shows the verdict
            and the matrix of the check that is kept.
        path: of the page; ``report.html`` in the workspace by default.
        generation: the one in question; the newest by default, or without ``data`` the newest that has been checked.
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
    for name in (generation, against):
        if name is not None:
            holdings.generation(name)
    kept = kept_check(holdings, generation, against) if source is None else None
    if kept is None:
        subject, found = _measure(holdings, source, generation, against, watcher)
        sections = _sections(found)
    else:
        subject, found = (kept.candidate.name, kept.base.name), None
        sections = kept_sections(holdings, kept)
    watcher.said("writing the report")
    content = _content(holdings, subject, found, sections)
    write_page(target, "report.html", **content)
    return Report(target, tuple(content["findings"]))


def _measure(
    holdings: Holdings, source: HeldOutSource | None, generation: str | None, against: str | None, watcher: Watcher
) -> tuple[Subject | None, Measurements | None]:
    """Return what the report is about, and what held-out images show of it."""
    if not holdings.generations():
        return None, None
    candidate, base = choose(holdings, generation, against)
    subject = candidate.name, base.name if base else None
    return subject, None if source is None else measure_held_out(holdings, source, candidate, base, watcher)


def _content(
    holdings: Holdings, subject: Subject | None, found: Measurements | None, sections: dict[str, Any]
) -> dict[str, Any]:
    """Return what the page's template shows."""
    where = standing.standing(holdings)
    missing = _missing(holdings, found, subject, sections)
    return {
        "name": holdings.directory.resolve().name,
        "made": moment(now()),
        "version": __version__,
        "subject": subject,
        "findings": _findings(where, sections, subject, missing),
        "standing": where,
        "lineage": standing.lineage(holdings),
        "sections": sections,
        "protocol": None if found is None else _protocol(found),
        "checks": standing.earlier_checks(holdings),
        "history": standing.history(holdings),
    }


def _target(path: Path) -> Path:
    """Return where to write, found out before anything is measured."""
    with creation_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    require_place(path)
    return path


def _sections(found: Measurements | None) -> dict[str, Any]:
    """The sections that could be measured, by name."""
    if found is None:
        return {}
    sections = {"verdict": verdict(found)} if found.base else {}
    if not found.labelled:
        return sections
    sections |= {
        "matrix": comparison.matrix(found),
        "every_metric": every_metric(found),
        "generations": comparison.generations(found),
        "classes": classes(found),
    }
    if found.base is not None:
        sections |= {"trade_off": comparison.trade_off(found, found.base), "flips": flips(found)}
    if found.curves is not None:
        sections["refreshing"] = comparison.refreshing(found, found.curves)
    if found.prototypes is not None:
        sections["prototypes"] = comparison.prototypes(found, found.prototypes)
    return sections


def _missing(
    holdings: Holdings, found: Measurements | None, subject: Subject | None, sections: dict[str, Any]
) -> list[str]:
    """Return why sections are left out, and the command that fills them, a sentence each."""
    if subject is None:
        return ["Nothing has been learned yet. Begin with  evergallery learn IMAGES"]
    if found is not None and not found.labelled:
        return [
            "The rest was not measured, because the held-out images have no labels. Measure it with  evergallery report "
            "--data LABELLED"
        ]
    if found is not None:
        hint = f"{subject[0]} has no older generation beside it. Learn another one with  evergallery learn NEW_IMAGES"
        return [hint] if found.base is None else []
    newest = holdings.generations()[-1].name
    other = newest != subject[0]
    sentences = [f"{newest} is newer, and no check of it is kept."] if other and sections else []
    what = "The rest was" if sections else "What it finds was"
    named = f"evergallery report {subject[0]} --data HELD_OUT"
    command = named if other else "evergallery report --data HELD_OUT"
    return [*sentences, f"{what} not measured, because no held-out images were given. Measure it with  {command}"]


def _findings(
    where: dict[str, Any], sections: dict[str, Any], subject: Subject | None, missing: list[str]
) -> list[str]:
    """Return what the page says in short, a sentence each."""
    findings = list(where["sentences"][:2])
    if subject is not None and "verdict" in sections:
        first, rest = sections["verdict"]["sentences"][:1], sections["verdict"]["sentences"][1:]
        findings += [f"{subject[0]} against {subject[1]}: {words[0].lower()}{words[1:]}" for words in first]
        findings += rest
    for name in ("trade_off", "prototypes"):
        if name in sections:
            findings.append(sections[name]["sentence"])
    if "refreshing" in sections:
        findings.append(sections["refreshing"]["sentences"][0])
    return findings + missing


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

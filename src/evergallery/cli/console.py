"""The terminal: progress bars where there is one, plain lines elsewhere, results as tables or JSON."""

import csv
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar

from rich import box
from rich.console import Console, ConsoleDimensions
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from evergallery.strings.redaction import redacted_text, redacted_values
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.data.images import UnreadableImage
    from evergallery.gallery.items import LabelConflict
    from evergallery.indexing.pipeline import IndexResult
    from evergallery.training import Progress as TrainingProgress

PLAIN_LINE_EVERY_SECONDS = 5.0
SKIPPED_SHOWN = 10
LONGEST_WORD = 16


WIDTH_OF_A_PIPE, LINES_OF_A_PIPE = 160, 25
COMMAND = re.compile(r"(?<=  )evergallery (?:(?!  ).)+?(?=  |[.:,;]?(?:  |\n|$))")
"""A command to copy, as messages have it: after two spaces, and before two or the end of the message or a line."""
WITHOUT_WORKSPACE = ("init", "demo", "benchmark", "gallery copy", "gallery verify")


class Terminal(Console):
    """A terminal that shows no secret of an address, and commands as they work where they are read.

    Attributes:
        workspace: what ``--workspace`` named, which commands in messages name too; ``None`` where it was left out.
        hides_progress: whether nothing is shown of how far something is; ``--quiet``.
    """

    workspace: ClassVar[Path | None] = None
    hides_progress: ClassVar[bool] = False

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Columns and lines, as they are now: pipes and logs have no width, but for what COLUMNS says."""
        said = os.environ.get("COLUMNS", "")
        if not (said.isdecimal() or self.is_terminal):
            return ConsoleDimensions(WIDTH_OF_A_PIPE, LINES_OF_A_PIPE)
        width, height = super().size
        return ConsoleDimensions(int(said) if said.isdecimal() else width, height)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; see ``rich``."""
        super().print(
            *(to_copy(redacted_text(shown)) if isinstance(shown, str) else shown for shown in objects), **options
        )


def to_copy(text: str) -> str:
    """A message whose commands name the workspace that this command was told of."""
    if Terminal.workspace is None:
        return text
    place = quote(str(Terminal.workspace))

    def completed(found: re.Match[str]) -> str:
        command = found[0]
        verb = command.removeprefix("evergallery ")
        if " -w " in command or command.endswith(" --help") or verb.startswith(WITHOUT_WORKSPACE):
            return command
        return f"{command} -w {place}"

    return COMMAND.sub(completed, text)


# Labels and addresses are text as it stands, whatever of it looks like a style or an emoji of rich.
out = Terminal(highlight=False, markup=False, emoji=False)
err = Terminal(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(redacted_values(value), indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table by RFC 4180 on standard output: the named columns of each row, and empty where one says nothing."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows([redacted_values(row.get(name)) for name in columns] for row in rows)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> None:
    """A table; columns from ``numbers_from`` on are aligned right. Where it is too narrow for its words, a paragraph a row."""
    out.print(title, style="bold", soft_wrap=True)
    rows = [[redacted_text(cell) for cell in row] for row in rows]
    if rows and _narrowest(columns, rows, numbers_from) > out.width:
        _print_paragraphs(columns, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        is_number = index >= numbers_from
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> int:
    """Characters below which a table breaks figures, or words that are not long, such as addresses are."""
    widths = []
    for index, cells in enumerate(zip(columns, *rows, strict=True)):
        parts = [part for cell in cells for part in (cell.splitlines() if index >= numbers_from else cell.split())]
        lengths = [len(part) for part in parts]
        widths.append(max([1, *lengths]) if index >= numbers_from else min(LONGEST_WORD, max([1, *lengths])))
    return sum(widths) + 2 * len(widths)


def _print_paragraphs(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for first, *others in rows:
        out.print(first or columns[0])
        told = [
            f"{' '.join(name.split())} {cell}".strip() for name, cell in zip(columns[1:], others, strict=True) if cell
        ]
        if told:
            out.print(Padding(Text("; ".join(told)), (0, 0, 0, 2), expand=False))


def say(sentence: str) -> None:
    """A sentence: wrapped on a terminal, one line elsewhere."""
    out.print(sentence, soft_wrap=not out.is_terminal)


def warn(sentence: str) -> None:
    """A sentence on standard error that stands out."""
    err.print(sentence, style="yellow", soft_wrap=True)


def print_skipped(skipped: "Sequence[UnreadableImage | str]", what: str = "image", count: int | None = None) -> None:
    """Name the files, or whatever else, that could not be read, each with its reason; ``count`` where there are more."""
    count = len(skipped) if count is None else count
    if skipped:
        warn(f"{count} {what}{'s' * (count > 1)} skipped:")
        for skip in skipped[:SKIPPED_SHOWN]:
            err.print(f"  {skip}")
        if count > SKIPPED_SHOWN:
            err.print(f"  and {count - SKIPPED_SHOWN} more")


def print_conflicts(conflicts: "Sequence[LabelConflict]", count: int) -> None:
    """Name the items that keep their label though another one was said; ``count`` where there are more than are given."""
    if count:
        whose = "item keeps its label" if count == 1 else "items keep their labels"
        warn(f"{count} {whose}, and another one was said (--relabel takes that):")
        for conflict in conflicts[:SKIPPED_SHOWN]:
            err.print(f"  {conflict.uri or conflict.item}: {conflict.known!r}, not {conflict.said!r}")
        if count > SKIPPED_SHOWN:
            err.print(f"  and {count - SKIPPED_SHOWN} more")


def print_outdated(done: "IndexResult") -> None:
    """Print what is no longer where the gallery says, and what became of it."""
    if done.moved:
        say(f"{done.moved} pictures were moved; the items have their new addresses.")
    count = done.changed + done.gone
    if done.pruned:
        say(f"{done.pruned} items were deleted, whose pictures are no longer at their addresses.")
    elif count:
        what = f"{done.changed} items have an address with another picture by now, {done.gone} one with none"
        warn(f"{what}; delete them with  evergallery index FOLDER --sync --prune")
        for uri in done.outdated[:SKIPPED_SHOWN]:
            err.print(f"  {uri}")
        if count > SKIPPED_SHOWN:
            err.print(f"  and {count - SKIPPED_SHOWN} more")


class PlainWatcher(Watcher):
    """A line every few seconds, for logs and pipes; on standard error."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.ended: set[str] = set()

    def counted(self, activity: str, done: int, total: int) -> None:
        """Print a line now and then, and one at the end."""
        if done < total:
            self.ended -= {activity}
        if activity not in self.ended and (self._due(activity) or done == total):
            err.print(f"{activity}: {done}/{total}")
        if done == total:
            self.ended |= {activity}

    def trained(self, progress: "TrainingProgress") -> None:
        """Print a line now and then, and one at the end of each epoch."""
        if self._due("training") or progress.step == progress.steps:
            err.print(describe(progress), soft_wrap=True)

    def said(self, message: str) -> None:
        """Print a line."""
        err.print(message, soft_wrap=True)

    def _due(self, activity: str) -> bool:
        now = time.monotonic()
        if now - self.last.get(activity, now - PLAIN_LINE_EVERY_SECONDS) >= PLAIN_LINE_EVERY_SECONDS:
            self.last[activity] = now
            return True
        return False


class QuietWatcher(Watcher):
    """A watcher beside a result as JSON: it says only what somebody must hear, on standard error."""

    def said(self, message: str) -> None:
        """Print a line."""
        err.print(message)


class BarWatcher(Watcher):
    """A bar per activity, on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def counted(self, activity: str, done: int, total: int) -> None:
        """Move the bar of this activity."""
        self._move(activity, done, total, f"{done}/{total}")

    def trained(self, progress: "TrainingProgress") -> None:
        """Move the bar of the training."""
        total = progress.epochs * progress.steps
        self._move("training", progress.epoch * progress.steps + progress.step, total, describe(progress))

    def said(self, message: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(message)

    def confirms(self, question: str) -> bool:
        """Ask whoever sits at the terminal; no is what a mere Enter says."""
        if not sys.stdin.isatty():
            return False
        self.progress.stop()
        try:
            return Confirm.ask(Text(question), console=self.progress.console, default=False)
        finally:
            self.progress.start()

    def _move(self, activity: str, done: int, total: int, note: str) -> None:
        if activity not in self.tasks:
            self.tasks[activity] = self.progress.add_task(activity, total=total, note=note)
        self.progress.update(self.tasks[activity], completed=done, total=total, note=note)
        if done >= total:
            self.progress.stop_task(self.tasks.pop(activity))


def describe(progress: "TrainingProgress") -> str:
    """A training run on one line: the named terms, the speed, the last recall on the validation part."""
    terms = "  ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
    recall = "" if progress.recall is None else f"  recall@1 {100 * progress.recall:.1f} %"
    return f"epoch {progress.epoch + 1}/{progress.epochs}  {terms}{recall}  {progress.images_per_second:.0f} images/s"


@contextmanager
def watching(quiet: bool = False) -> Iterator[Watcher]:
    """A watcher for this terminal: bars, plain lines, or with ``quiet``, or ``--quiet``, only what must be heard."""
    if quiet or Terminal.hides_progress:
        yield QuietWatcher()
    elif not err.is_terminal:
        yield PlainWatcher()
    else:
        described, noted = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
        columns = (described, BarColumn(bar_width=20), noted)
        times = TimeElapsedColumn(), TimeRemainingColumn()
        with Progress(*columns, *times, console=err) as progress:
            yield BarWatcher(progress)

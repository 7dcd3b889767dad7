"""Writes the metrics of the glossary from the table in the code:  python docs/metrics.py"""

import re
from pathlib import Path

from evergallery.retrieval.metrics import METRICS

PAGE = Path(__file__).parent / "glossary.md"
TABLE = re.compile(r"(?<=<!-- metrics -->\n).*(?=<!-- end of metrics -->)", re.DOTALL)


def written(page: str) -> str:
    """The page with a row for every metric."""
    rows = [f"| **{name}** | {metric.explained} |" for name, metric in sorted(METRICS.items(), key=_letters)]
    table = "\n".join(["| metric | meaning |", "|---|---|", *rows, ""])
    return TABLE.sub(lambda _: table, page)


def _letters(row: tuple[str, object]) -> str:
    return row[0].lower()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))

"""What the demo finds with its first seed, in the README.

python benchmarks/demo.py              a few minutes on two cores
python benchmarks/demo.py --pages      only writes the committed result into the README
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import record, recorded, wrapped, write_between
from common import table as markdown_table
from evergallery.demo.story import run_demo
from evergallery.watching import Watcher

PAGE = Path(__file__).parents[1] / "README.md"
RESULT = "demo"
GROUPS = ("old", "new", "all")


def table(result: dict[str, Any]) -> str:
    """The demo's table, in Markdown: recall@1 in %, and what each generation cost."""
    head = [
        "queries by",
        *(f"{group} {test}" for group in GROUPS for test in ("self", "cross")),
        "training images",
        "seconds",
    ]
    rows = []
    for generation in result["generations"]:
        recall = [f"{100 * generation[test][group]['recall@1']:.1f}" for group in GROUPS for test in ("self", "cross")]
        rows.append(
            [generation["title"], *recall, str(generation["training_images"]), f"{generation['training_seconds']:.0f}"]
        )
    return wrapped(
        "Recall@1 in %, queries by each generation; *self* in vectors of its own, *cross* in the stored vectors of `v1`; one "
        f"seed, on cores that others were using too:\n\n{markdown_table(head, rows)}\n\n{result['findings'][-1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="Only write the committed result into the README.")
    if not parser.parse_args().pages:
        with tempfile.TemporaryDirectory() as folder:
            found = run_demo(Path(folder) / "demo", "glyphs", watcher=Watcher()).to_dict()
        del found["page"]
        record(RESULT, found, seed=0)
    write_between(PAGE, RESULT, table(recorded(RESULT)))


if __name__ == "__main__":
    main()

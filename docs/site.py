"""Lays the pages out for mkdocs, as they lie in the repository: ``python docs/site.py build/pages``, by ``make docs``.

Links to files that are no page lead to the repository.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/evergallery/evergallery/blob/main"
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
PICTURES = (".svg", ".png")
LINK = re.compile(r"(\]\()(?!https?://|#|<)([^)#\s]+)(#[^)]*)?(\))")


def main(target: Path) -> None:
    """Write every page, with its pictures, below ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    pages = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        place = target / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(LINK.sub(lambda link, page=page: _link(link, page, pages), page.read_text()))
    for picture in (path for folder in ("docs", "results") for path in (ROOT / folder).rglob("*")):
        if picture.suffix in PICTURES:
            place = target / picture.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture, place)


def _link(link: re.Match[str], page: Path, pages: list[Path]) -> str:
    opening, address, anchor, closing = link[1], link[2], link[3] or "", link[4]
    path = (page.parent / address).resolve()
    if path.is_dir() and path / "README.md" in pages:
        address = address.rstrip("/") + "/README.md"
    elif path not in pages and path.suffix not in PICTURES:
        if not path.exists():
            raise SystemExit(f"{page.relative_to(ROOT)} links to {address}, which is not there.")
        address = f"{REPOSITORY}/{path.relative_to(ROOT)}"
    return f"{opening}{address}{anchor}{closing}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

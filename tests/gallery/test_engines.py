"""Every engine that a gallery is opened with holds the contract, and has a page that says what it is good for."""

import inspect
from pathlib import Path
from typing import cast

from conftest import ENGINES_HERE
from evergallery.gallery.opening import ENGINES

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def room_of(scheme: str | None) -> str:
    return Path(inspect.getfile(cast(type, ENGINES[scheme].opener()))).parent.name


def test_every_engine_holds_the_contract() -> None:
    assert set(map(room_of, ENGINES)) == set(ENGINES_HERE), "make a place for it in new_place of tests/conftest.py"


def test_the_page_names_a_scheme_of_every_engine() -> None:
    page = PAGE.read_text()
    named = {room_of(scheme) for scheme in ENGINES if scheme is None or f"{scheme}://" in page}
    assert named == set(ENGINES_HERE), "docs/engines.md says what each is good for, and how its URL is written"

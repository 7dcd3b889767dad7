"""Every engine that a gallery is opened with holds the contract, and has a page that says what it is good for."""

import inspect
from pathlib import Path
from typing import cast

import pytest

from conftest import ENGINES_HERE
from evergallery.cli.exchange import adopt
from evergallery.cli.workspaces import init
from evergallery.errors import InputError
from evergallery.gallery.opening import ENGINES, look_at, open_store
from evergallery.strings.redaction import redacted_text

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def room_of(scheme: str | None) -> str:
    return Path(inspect.getfile(cast(type, ENGINES[scheme].opener()))).parent.name


def test_every_engine_holds_the_contract() -> None:
    assert set(map(room_of, ENGINES)) == set(ENGINES_HERE), "make a place for it in new_place of tests/conftest.py"


def test_the_page_names_a_scheme_of_every_engine() -> None:
    page = PAGE.read_text()
    named = {room_of(scheme) for scheme in ENGINES if scheme is None or f"{scheme}://" in page}
    assert named == set(ENGINES_HERE), "docs/engines.md says what each is good for, and how its URL is written"


def test_help_and_messages_name_the_places_of_every_engine() -> None:
    places = {engine.gallery for engine in ENGINES.values()}
    collections = {engine.collection for engine in ENGINES.values() if engine.looker is not None}
    assert all(collections), "a collection that may be adopted is named by the place that help shows"
    with pytest.raises(InputError) as refused:
        open_store("nowhere://host/shop")
    assert places == {place for place in places if place in str(refused.value)}
    with pytest.raises(InputError) as refused:
        look_at("nowhere://host/shop", Path())
    assert collections == {place for place in collections if place in str(refused.value)}
    store = inspect.get_annotations(init)["store"].__metadata__[0].help
    adopted = inspect.get_annotations(adopt)["collection"].__metadata__[0].help
    assert places == {place for place in places if place in store}
    assert collections == {place for place in collections if place in adopted}


@pytest.mark.parametrize("scheme", [scheme for scheme in ENGINES if scheme is not None])
def test_no_message_shows_a_password_in_the_address_of_an_engine(scheme: str) -> None:
    shown = redacted_text(f"There is no gallery at {scheme}://me:hunter2@host:1234/shop?gallery=one&api_key=hunter3.")
    assert "hunter" not in shown
    assert f"{scheme}://" in shown

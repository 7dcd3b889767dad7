"""One text in the metadata, whatever normal form of Unicode a system has written it in; and ids, which are exact."""

import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from plain_items import item, known

from evergallery.gallery import Filter, GalleryStore, Item, open_store

NAME = "Café"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, NAME) for form in ("NFC", "NFD"))


@pytest.fixture
def store(place: str) -> Iterator[GalleryStore]:
    with closing(open_store(place)) as opened:
        yield opened


def named(name: str, number: int = 1, **changes: Any) -> Item:
    return replace(item(number), id=name, **changes)


def test_an_id_is_known_by_its_exact_letters(store: GalleryStore) -> None:
    """Two systems may mean two things by ids that look alike; nothing of one may reach the other."""
    assert store.put([named(DECOMPOSED), named(COMPOSED, 2, metadata={"price": 9})]).added == 2
    assert store.contains([COMPOSED, DECOMPOSED]) == {COMPOSED, DECOMPOSED}
    assert known(store, DECOMPOSED).metadata["price"] == 1
    assert store.delete([COMPOSED]) == 1
    assert next(store.identifiers()) == [DECOMPOSED]


def test_metadata_are_found_in_whatever_form_they_were_stored_and_asked_for(store: GalleryStore) -> None:
    store.put([named("new", 1, metadata={"shop": DECOMPOSED})])
    store.put_versions([named("old", 2, metadata={"shop": DECOMPOSED}), named("other", 3, metadata={"shop": "Cafe"})])
    assert known(store, "new").metadata == {"shop": COMPOSED}
    for asked in (COMPOSED, DECOMPOSED):
        assert {item.id for page in store.iterate(Filter(metadata={"shop": asked})) for item in page} == {"new", "old"}
    assert store.count(Filter(metadata={"shop": "Cafe"})) == 1
    assert store.put([named("old", 2, metadata={"shop": COMPOSED})]).replaced == 1
    assert store.put([named("old", 2, metadata={"shop": DECOMPOSED})]).unchanged == 1
    assert store.verify() == []

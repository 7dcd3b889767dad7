"""One id, and one text in the metadata, whatever normal form of Unicode a system has written it in."""

import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from plain_items import item

from evergallery.errors import InputError
from evergallery.gallery import Filter, GalleryStore, open_store

NAME = "Café"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, NAME) for form in ("NFC", "NFD"))


@pytest.fixture
def store(place: str) -> Iterator[GalleryStore]:
    with closing(open_store(place)) as opened:
        yield opened


def named(name: str, number: int = 1, **changes: object) -> object:
    return replace(item(number), id=name, **changes)


def test_an_id_is_one_item_in_both_forms(store: GalleryStore) -> None:
    assert store.put([named(DECOMPOSED)]).added == 1
    counts = store.put([named(COMPOSED, metadata={"price": 9})])
    assert (counts.added, counts.replaced) == (0, 1)
    assert next(store.identifiers()) == [COMPOSED]
    for asked in (COMPOSED, DECOMPOSED):
        assert store.get(asked).metadata["price"] == 9
        assert set(store.get_many([asked])) == store.contains([asked]) == {asked}
    with pytest.raises(InputError, match="occurs twice"):
        store.put([named(COMPOSED), named(DECOMPOSED, 2)])
    assert store.delete([DECOMPOSED]) == 1
    assert store.count() == 0


def test_an_item_of_earlier_versions_keeps_its_id(store: GalleryStore) -> None:
    store.put_versions([named(DECOMPOSED)])
    assert store.put([named(COMPOSED, metadata={"price": 9})]).replaced == 1
    assert next(store.identifiers()) == [DECOMPOSED]
    assert store.get(COMPOSED).metadata["price"] == 9
    store.put_versions([named(COMPOSED, 2)])
    assert store.delete([COMPOSED]) == 1, "of two items the one that is meant"
    assert next(store.identifiers()) == [DECOMPOSED]


def test_metadata_are_found_in_whatever_form_they_were_stored_and_asked_for(store: GalleryStore) -> None:
    store.put([named("new", 1, metadata={"shop": DECOMPOSED})])
    store.put_versions([named("old", 2, metadata={"shop": DECOMPOSED}), named("other", 3, metadata={"shop": "Cafe"})])
    assert store.get("new").metadata == {"shop": COMPOSED}
    for asked in (COMPOSED, DECOMPOSED):
        assert {one.id for page in store.iterate(Filter(metadata={"shop": asked})) for one in page} == {"new", "old"}
    assert store.count(Filter(metadata={"shop": "Cafe"})) == 1
    assert store.put([named("old", 2, metadata={"shop": COMPOSED})]).replaced == 1
    assert store.put([named("old", 2, metadata={"shop": DECOMPOSED})]).unchanged == 1
    assert store.verify() == []

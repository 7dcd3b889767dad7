"""What people say of results is kept, the last word holds, and a check asks it."""

from pathlib import Path

import numpy as np
import pytest

from evergallery.errors import InputError
from evergallery.holdings.marks import Mark, Marks
from shops import make_photos, make_shop


def test_the_last_word_holds_and_half_a_line_is_no_mark(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks.jsonl")
    assert marks.all() == []
    marks.say("a", "x", True)
    marks.say("a", "y", True)
    marks.say("b", "x", False)
    marks.say("a", "x", False)
    marks.say("a", "y", None)
    with marks.path.open("ab") as file:
        file.write(b'{"query": "c", "item": "x", "ri')
    marks.say("c", "é", True)
    assert marks.all() == [Mark("a", "x", False), Mark("b", "x", False), Mark("c", "é", True)]
    assert marks.of(["c"]) == {("c", "é"): True}


def test_a_check_asks_what_was_marked(tmp_path: Path) -> None:
    with make_shop(tmp_path) as shop:
        items = [item for page in shop.gallery.iterate() for item in page]
        with pytest.raises(InputError, match="marked"):
            shop.check("v2", "@marks")
        by_label: dict[str, list[str]] = {}
        for item in items:
            by_label.setdefault(str(item.label), []).append(item.id)
        for names in by_label.values():
            for query in names[:3]:
                for item_id in names:
                    if item_id != query:
                        shop.holdings.marks.say(query, item_id, True)
        shop.holdings.marks.say(items[0].id, "no such item", True)
        found = shop.check("v2", "@marks").pairs[0].evidence
        assert found.queries == 30
        labelled = shop.check("v2", "@gallery").pairs[0].evidence
        # Of the marked queries every item of their class is right, as it is by labels.
        assert found.recall("new self") == pytest.approx(labelled.recall("new self"), abs=0.15)


def test_pictures_that_were_searched_with_are_asked_too(tmp_path: Path) -> None:
    with make_shop(tmp_path) as shop:
        items = {item.id: item for page in shop.gallery.iterate() for item in page}
        fresh = sorted(make_photos(tmp_path / "fresh", each=1, seed=9).rglob("*.png"))
        import hashlib

        shop.holdings.marks.pictures.mkdir()
        for path in fresh:
            data = path.read_bytes()
            content = hashlib.sha256(data).hexdigest()
            (shop.holdings.marks.pictures / f"{content}.png").write_bytes(data)
            for item in items.values():
                if item.label == path.parent.name:
                    shop.holdings.marks.say(content, item.id, True)
        first = min(items)
        shop.holdings.marks.say(
            first, min(name for name in items if items[name].label == items[first].label and name != first), True
        )
        evidence = shop.check("v2", "@marks").pairs[0].evidence
        assert evidence.queries == len(fresh) + 1
        assert evidence.recall("new self") > evidence.recall("old self") - 0.2
        assert np.isfinite(evidence.recall("cross"))

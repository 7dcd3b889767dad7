"""Held-out evidence as users have it, and what each kind of it can conclude."""

import csv
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.data import sources
from evergallery.errors import InputError, RefusedError
from evergallery.upgrade.embedding_table import read_embeddings
from evergallery.watching import Watcher
from shops import held_out, make_photos, make_shop

ITEMS = 240


def team(folder: Path) -> tuple[Workspace, NDArray[np.float32], NDArray[np.float32]]:
    """Imported vectors of v1, new ones of v2 of the same items in the shadow, in coordinates of their own and better."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(ITEMS, 16))
    rotation = np.linalg.qr(draw.normal(size=(16, 16)))[0]
    stored = centres + 0.3 * draw.normal(size=(2, ITEMS, 16))
    asked = centres + np.array([0.9, 0.4])[:, None, None] * draw.normal(size=(2, ITEMS, 16))
    shop = Workspace.create(folder / "shop", size=16)
    ids = np.array([f"sku-{index}" for index in range(ITEMS)])
    for number, name in enumerate(("v1", "v2")):
        vectors = stored[number] @ rotation if number else stored[number]
        np.savez(folder / f"{name}.npz", embeddings=vectors.astype(np.float32), ids=ids)
        shop.import_vectors(folder / f"{name}.npz", refresh=bool(number))
    return shop, asked[0].astype(np.float32), (asked[1] @ rotation).astype(np.float32)


def test_queries_with_one_right_item_each_beside_the_gallery(tmp_path: Path) -> None:
    """No label anywhere: the item that a query should find is known by its id."""
    shop, v1, v2 = team(tmp_path)
    answers = np.array([f"sku-{index}" for index in range(ITEMS)])
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2, answers=answers)
    found = shop.check("v2", tmp_path / "queries.npz", gallery="@gallery")
    evidence = found.pairs[0].evidence
    assert (evidence.queries, evidence.metric, found.protocol) == (ITEMS, "recall@1", "240 queries in 240 stored items")
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (v1, np.load(tmp_path / "v1.npz")["embeddings"])
    ]
    expected = ((unit[0] @ unit[1].T).argmax(1) == np.arange(ITEMS)).mean()
    assert evidence.recall("old self") == pytest.approx(expected)
    assert evidence.self_change.low > 0
    assert found.conclusion.startswith("One item is right for each query")
    assert evidence.forgetting is None
    assert "v1 knows no class" in (evidence.forgetting_not_measured or "")
    assert "Forgetting was not measured" in found.verdict
    assert shop.promote("v2").judged == "v2 alone against v1 alone"


def test_the_same_from_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    shop, v1, v2 = team(tmp_path)
    columns = {
        "v1": list(v1), "v2": list(v2), "id": [f"q{index}" for index in range(ITEMS)],
        "answer": [f"sku-{index}" for index in range(ITEMS)],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "queries.parquet")
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2, answers=np.array(columns["answer"]))
    tables = [tmp_path / f"queries.{suffix}" for suffix in ("parquet", "npz")]
    first, second = (shop.check("v2", path, gallery="@gallery").pairs[0].evidence for path in tables)
    assert first.figures == second.figures


def test_queries_and_gallery_in_one_table_by_split(tmp_path: Path) -> None:
    shop, v1, v2 = team(tmp_path)
    stored = [np.load(tmp_path / f"{name}.npz")["embeddings"] for name in ("v1", "v2")]
    labels = np.arange(ITEMS).astype(str)
    np.savez(
        tmp_path / "both.npz", v1=np.concatenate([v1, stored[0]]), v2=np.concatenate([v2, stored[1]]),
        labels=np.concatenate([labels, labels]), split=np.repeat(["query", "gallery"], ITEMS),
    )  # fmt: skip
    evidence = shop.check("v2", tmp_path / "both.npz").pairs[0].evidence
    assert evidence.protocol == "'query' in 'gallery'"
    assert evidence.queries == ITEMS
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2, answers=np.array([f"sku-{index}" for index in range(ITEMS)]))
    beside = shop.check("v2", tmp_path / "queries.npz", gallery="@gallery").pairs[0].evidence
    assert evidence.recall("new self") == beside.recall("new self")


def test_graded_answers_are_worth_their_grade(tmp_path: Path) -> None:
    shop, v1, v2 = team(tmp_path)
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2, ids=np.array([f"q{index}" for index in range(ITEMS)]))
    with (tmp_path / "answers.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("query", "item", "grade"))
        for index in range(ITEMS):
            # The item itself is right, its neighbour in the list a little, another one is said to be wrong.
            rows.writerow((f"q{index}", f"sku-{index}", 3))
            rows.writerow((f"q{index}", f"sku-{(index + 1) % ITEMS}", 1))
            rows.writerow((f"q{index}", f"sku-{(index + 2) % ITEMS}", 0))
    found = shop.check("v2", tmp_path / "queries.npz", gallery="@gallery", answers=tmp_path / "answers.csv")
    evidence = found.pairs[0].evidence
    assert evidence.metric == "nDCG@1"
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (v1, np.load(tmp_path / "v1.npz")["embeddings"])
    ]
    first = (unit[0] @ unit[1].T).argmax(1) - np.arange(ITEMS)
    expected = np.where(first == 0, 1.0, np.where(first % ITEMS == 1, 1 / 7, 0.0)).mean()
    assert evidence.score("old self") == pytest.approx(expected)
    assert evidence.self_change.mean == pytest.approx(evidence.score("new self") - evidence.score("old self"))
    assert "reach nDCG@1" in found.verdict
    assert "graded" in found.conclusion


@pytest.mark.parametrize("beside", [False, True])
def test_without_labels_the_gate_stays_closed(tmp_path: Path, beside: bool) -> None:
    """A query log, or vectors alone: how much would change, and nothing of whether it would be for the better."""
    shop, v1, v2 = team(tmp_path)
    np.savez(tmp_path / "log.npz", v1=v1, v2=v2)
    found = shop.check("v2", tmp_path / "log.npz", gallery="@gallery" if beside else None)
    assert (found.pairs, found.passed) == ((), False)
    assert found.agreements[0].queries == ITEMS
    assert "It opens no gate" in found.conclusion
    with pytest.raises(RefusedError, match="v2 has not been checked"):
        shop.promote("v2")


def test_photographs_asked_of_the_gallery(tmp_path: Path) -> None:
    """Query pictures with the item that was bought: on the command line, by the names that files and items have."""
    shop = make_shop(tmp_path)
    stored = {item.label: item.id for batch in shop.gallery.iterate() for item in batch}
    shop.close()
    queries = make_photos(tmp_path / "asked", each=25, seed=7)
    files = sorted(queries.rglob("*.png"))
    rows = [f"{path},{stored[path.parent.name]}" for path in files] + ["nobody.png,nothing"]
    (tmp_path / "bought.csv").write_text("query,item\n" + "\n".join(rows) + "\n")
    arguments = ("check", "v2", "--data", queries, "--gallery", "@gallery", "-w", tmp_path / "shop")
    by_label = as_json(*arguments)["pairs"][0]["evidence"]
    told = evergallery(*arguments, "--answers", tmp_path / "bought.csv", expect=1)
    assert "One item is right for each query" in told.stdout
    assert "1 answers of" in told.stderr
    found = as_json(*arguments, "--answers", tmp_path / "bought.csv", expect=1)["pairs"][0]["evidence"]
    assert found["queries"] == by_label["queries"] == 250
    assert found["figures"]["cross"]["all"]["recall"]["1"] < by_label["figures"]["cross"]["all"]["recall"]["1"]


def test_stored_pictures_do_not_find_themselves(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    with pytest.raises(InputError, match="would find itself"):
        shop.check("v2", tmp_path / "photos", gallery="@gallery")


class TestForgetting:
    def test_on_classes_that_are_given(self, tmp_path: Path) -> None:
        shop = make_shop(tmp_path)
        (tmp_path / "old.txt").write_text("class 0\nclass 1\n\n class 2 \n")
        held = make_photos(tmp_path / "held-out", each=30, seed=7)
        shop.close()
        arguments = ("check", "v2", "--data", held, "-w", tmp_path / "shop")
        for given in ("class 0, class 1,class 2", tmp_path / "old.txt"):
            evidence = as_json(*arguments, "--old-classes", given)["pairs"][0]["evidence"]
            assert evidence["old_classes"] == "given"
            old = {test: evidence["figures"][test]["old"] for test in ("old self", "new self")}
            assert old["old self"]["queries"] == 90
            assert evidence["forgetting"] == pytest.approx(
                old["old self"]["recall"]["1"] - old["new self"]["recall"]["1"]
            )
        assert "names no class" in evergallery(*arguments, "--old-classes", " ,", expect=2).stderr

    def test_by_default_on_the_labels_of_the_older_items(self, tmp_path: Path) -> None:
        shop = make_shop(tmp_path)
        evidence = shop.check("v2", held_out()).pairs[0].evidence
        assert (evidence.old_classes, evidence.forgetting_not_measured) == ("gallery", None)
        assert evidence.figures["cross"]["old"].queries == 300

    def test_on_classes_that_no_image_is_of_it_is_refused_before_one_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop, held = make_shop(tmp_path), make_photos(tmp_path / "held-out", each=2, seed=7)
        with monkeypatch.context() as patched:
            patched.setattr(sources, "read", None)
            for data in (held, held_out()):
                with pytest.raises(InputError, match=r"None of the images is of class 77, clas 1: they are of class 0"):
                    shop.check("v2", data, old_classes=["class 77", "clas 1"])
        said: list[str] = []
        watcher = Watcher()
        monkeypatch.setattr(watcher, "said", said.append)
        shop.check("v2", held_out(), old_classes=["class 1", "clas 2"], watcher=watcher)
        assert any("no image, so that nothing is measured on them: clas 2" in sentence for sentence in said)

    def test_where_it_was_not_measured_everybody_is_told_why(self, tmp_path: Path) -> None:
        shop = make_shop(tmp_path)
        with (shop.directory / "gate.toml").open("a") as file:
            file.write("forgetting = 1.0\n")
        others = replace(held_out(), classes=tuple(f"other {name}" for name in held_out().classes))
        found = shop.check("v2", others)
        why = "none of the old classes is among the held-out images"
        assert found.verdict.endswith(f"Forgetting was not measured: {why}.")
        assert found.passed
        told = [str(condition) for _, condition in shop.promote("v2")]
        assert f"not measured: forgetting: {why}, required at most 1 point on old classes" in told


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"queries": "foo", "gallery": "gallery"}, "have no split 'foo': they have gallery, query"),
        ({"queries": "query", "gallery": "foo"}, "have no split 'foo'"),
        ({"queries": "foo", "gallery": "@gallery"}, "have no split 'foo'"),
        ({"queries": "query"}, "named together"),
        ({"gallery": "query"}, "named together"),
    ],
)
def test_a_split_that_is_not_there_is_refused_before_an_image_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: dict[str, Any], says: str
) -> None:
    shop = make_shop(tmp_path)
    for split in ("query", "gallery"):
        make_photos(tmp_path / "held-out" / split, each=1)

    def decode(*_: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(sources, "read_entries", decode)
    with pytest.raises(InputError, match=says):
        shop.check("v2", tmp_path / "held-out", **splits)


def test_a_split_has_the_names_that_folders_may_have(tmp_path: Path) -> None:
    """``testing`` is ``test``, in a table, in a folder and on the command line."""
    shop, v1, v2 = team(tmp_path)
    labels = np.arange(ITEMS).astype(str)
    np.savez(
        tmp_path / "both.npz",
        v1=np.concatenate([v1, v1]),
        v2=np.concatenate([v2, v2]),
        labels=np.concatenate([labels, labels]),
        split=np.repeat(["Testing", "gallery"], ITEMS),
    )
    for name in ("testing", "test"):
        evidence = shop.check("v2", tmp_path / "both.npz", queries=name, gallery="gallery").pairs[0].evidence
        assert evidence.protocol == "'test' in 'gallery'"


def test_labels_that_pandas_made_numbers_are_the_names_that_they_were(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    shop, v1, v2 = team(tmp_path)
    labels = [float(index // 4) for index in range(ITEMS)]
    labels[0] = float("nan")
    parquet.write_table(pa.table({"v1": list(v1), "v2": list(v2), "label": labels}), tmp_path / "t.parquet")
    images = read_embeddings(
        tmp_path / "t.parquet", {name: shop.holdings.generation(name) for name in ("v1", "v2")}
    ).images
    assert set(images.classes) == {str(index) for index in range(ITEMS // 4)}
    assert images.labels[0] == -1
    parquet.write_table(pa.table({"v1": list(v1), "v2": list(v2), "label": [0.5] * ITEMS}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"in row 0, labels, '0.5', which is neither text nor a whole number"):
        shop.check("v2", tmp_path / "t.parquet")


def test_names_are_the_same_in_whatever_form_they_were_typed(tmp_path: Path) -> None:
    shop, v1, v2 = team(tmp_path)
    ids = np.array([unicodedata.normalize("NFD", f"é-{index}") for index in range(ITEMS)])
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2, ids=ids)
    rows = (f"{unicodedata.normalize('NFC', name)},sku-{index}" for index, name in enumerate(ids))
    (tmp_path / "answers.csv").write_text("query,item\n" + "\n".join(rows))
    found = shop.check("v2", tmp_path / "queries.npz", gallery="@gallery", answers=tmp_path / "answers.csv")
    assert found.pairs[0].evidence.queries == ITEMS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,thing\na,b\n", "has no column 'item'"),
        ("query,item\na,\n", "no query or no item in row 1"),
        ("query,item,grade\na,b,much\n", "has the grade 'much' in row 1"),
        ("query,item,grade\na,b,0\n", "names no right answer"),
        ("query,item\na,b\n", "None of the answers of .* for instance not a"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    shop, v1, v2 = team(tmp_path)
    np.savez(tmp_path / "queries.npz", v1=v1, v2=v2)
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        shop.check("v2", tmp_path / "queries.npz", gallery="@gallery", answers=tmp_path / "answers.csv")
    with pytest.raises(InputError, match=r"There is no file .*nowhere.csv"):
        shop.check("v2", tmp_path / "queries.npz", answers=tmp_path / "nowhere.csv")

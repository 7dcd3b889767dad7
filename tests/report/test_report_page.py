"""The report on workspaces of every kind, and its page in a real browser."""

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from conftest import coloured_images
from copies import copied
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.evaluation import Protocol
from evergallery.methods import Finetune
from evergallery.report.measurements import choose
from evergallery.report.page import prose
from evergallery.report.words import moment
from evergallery.training import Settings
from evergallery.upgrade.check import check_pair
from evergallery.upgrade.gate import Gate
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing

SECTIONS = (
    "standing", "lineage", "verdict", "matrix", "trade-off", "classes", "generations", "refreshing", "flips", "prototypes",
    "checks", "history",
)  # fmt: skip
HELD_OUT = coloured_images(classes=8, each=14, seed=7)


def plain(page: str) -> str:
    """The words of a page, without markup."""
    text = re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def words_of(sentence: str) -> str:
    return plain(str(prose(sentence)))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """v1 knows four classes, v2 (evergreen) and v3 (fine-tuned) learn four more; v1's vectors are stored."""
    folder = tmp_path_factory.mktemp("report")
    images = coloured_images(classes=8, each=12)
    quick: dict[str, Any] = {"epochs": 2, "batch_size": 16, "precision": "float32", "device": "cpu", "padding": 1}
    photos = folder / "photos"
    for index, label in enumerate(HELD_OUT.labels):
        path = photos / HELD_OUT.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(HELD_OUT.pixels[index]).save(path)
    with Workspace.create(folder / "shop", backbone="resnet8", size=16) as space:
        space.learn(images.of_classes(images.classes[:4]), settings=Settings(**quick))
        space.index(photos)
        new = images.of_classes(images.classes[4:])
        space.learn(new, settings=Settings.update(**quick))
        space.learn(new, method=Finetune(), settings=Settings.update(**quick))
        space.check("v2", photos, against="v1")
        yield space


@contextmanager
def fresh(shop: Workspace, folder: Path) -> Iterator[Workspace]:
    """A copy of the workspace of which no check is kept."""
    copy = copied(shop.directory, folder / "shop", without=(".lock", "checks"))
    with Workspace(copy) as space:
        yield space


@pytest.fixture(scope="module")
def page(shop: Workspace) -> Path:
    return shop.report(shop.directory.parent / "photos", path=shop.directory.parent / "out" / "report.html").path


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer to draw than all the rest, and those of the page are looked at."""
    monkeypatch.setattr("evergallery.report.page._svg", lambda *_: "<svg/>")


def test_every_figure_of_the_matrix_is_on_the_page(shop: Workspace, page: Path) -> None:
    text = page.read_text()
    check = shop.check("v3", shop.directory.parent / "photos", against="all")
    cells = re.findall(r"<td[^>]*--heat: [^>]*><strong>([\d.]+)</strong><span>([\d.]+)–([\d.]+)</span></td>", text)
    values = check.values()
    assert [cell[0] for cell in cells] == [f"{100 * values[q, g]:.1f}" for q in range(3) for g in range(q + 1)]
    assert all(float(low) <= float(value) <= float(high) for value, low, high in cells)
    lineage = {name: f"{100 * value:.1f}" for name, value in check.lineage().items() if value is not None}
    assert lineage == dict(re.findall(r'<tr><th scope="row">(\w\w)</th><td>([-\d.]+)</td>', text))


def test_every_metric_of_every_search_is_on_the_page(shop: Workspace, page: Path) -> None:
    text = page.read_text()
    section = text[text.index("<summary>Every metric of every search") :]
    section = section[: section.index("</details>")]
    names = re.findall(r'<th scope="col">([^<]*)</th>', section)[2:-1]
    rows = re.findall(r'<tr><th scope="row">(\w+) in (\w+)</th><td>all</td>(.*?)</tr>', section)
    matrix = shop.check("v3", shop.directory.parent / "photos", against="all").matrix
    assert {(query, gallery) for query, gallery, _ in rows} == set(matrix)
    for query, gallery, cells in rows:
        metrics = matrix[query, gallery]["all"]
        assert names == list(metrics.values)
        assert re.findall(r"<td>([^<]*)</td>", cells) == [
            *(f"{100 * value:.1f}" for value in metrics.values.values()), str(metrics.queries)
        ]  # fmt: skip
    assert "share of positives among the R nearest items" in section


def test_trade_off_is_that_of_the_metrics(shop: Workspace, page: Path) -> None:
    text = page.read_text()
    section = text[text.index('id="trade-off"') : text.index('id="generations"')]
    check = shop.check("v3", shop.directory.parent / "photos", against="all")
    row = re.search(r'<th scope="row">v3</th>(.*?)</tr>', section, re.DOTALL)
    assert row is not None
    found = re.findall(r"<td>([\d.]+) \(", row[1])
    known = check.matrix
    # The last check's old classes are those of v2: all. Those of the report are v1's.
    assert found[4:] == [f"{100 * known['v3', where]['all'].recall[1]:.1f}" for where in ("v3", "v1")]
    images = HELD_OUT.of_classes(HELD_OUT.classes[:4])
    old = shop.check("v3", images, against="v1").matrix
    assert found[:2] == [f"{100 * old['v3', where]['all'].recall[1]:.1f}" for where in ("v3", "v1")]


@pytest.mark.usefixtures("without_plots")
def test_findings_name_the_verdict_and_are_on_the_page(shop: Workspace) -> None:
    report = shop.report(shop.directory.parent / "photos", generation="v2", path=shop.directory.parent / "v2.html")
    text = plain(report.path.read_text())
    pair = shop.check("v2", shop.directory.parent / "photos", against="v1").pairs[0]
    assert any(sentence == f"v2 against v1: {pair.verdict}: {pair.reason}" for sentence in report.findings)
    assert all(words_of(sentence) in text for sentence in report.findings)
    for condition in pair.conditions:
        assert words_of(condition.measured) in text
        assert words_of(condition.required) in text


def test_every_class_has_its_figures_the_worst_first(shop: Workspace, page: Path) -> None:
    found = shop.check("v2", HELD_OUT, against="v1")
    images, metrics = found.images, found.matrix["v2", "v2"]["all"]
    labels = images.images.labels[images.query]
    right = metrics.hits_at_1.numpy()
    shares = {images.images.classes[label]: right[labels == label].mean() for label in np.unique(labels)}
    text = page.read_text()
    section = text[text.index('<section id="classes"') : text.index('<section id="generations"')]
    rows = re.findall(r'<th scope="row" class="words">(.*?)</th><td>(\d+)</td><td>(\d+) \(', section)
    assert {name: int(share) for name, _, share in rows} == {name: round(100 * share) for name, share in shares.items()}
    assert all(int(queries) == 14 for _, queries, _ in rows)
    ordered = [shares[name] for name, _, _ in rows]
    assert ordered == sorted(ordered)
    missed = sum(int(count) for count in re.findall(r"<h3>.*?: (\d+) quer", section))
    assert missed == (~right).sum() or section.count("<h3>") == 5
    assert section.count('alt="query: ') == section.count('alt="found: ')


def test_figures_are_saved_and_the_navigation_stands_beside(page: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.goto(page.absolute().as_uri())
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save this figure").first.click()
    assert download.value.suggested_filename.endswith(".svg")
    assert Path(download.value.path()).read_text().lstrip().startswith("<?xml")
    side, main = (tab.locator(name).bounding_box() for name in ("nav", "main"))
    assert side["x"] + side["width"] <= main["x"]
    tab.locator("#flips").scroll_into_view_if_needed()
    tab.evaluate("document.querySelector('#flips').scrollIntoView()")
    tab.wait_for_selector("nav a[href='#flips'][aria-current]")
    assert tab.locator("nav").is_visible()
    assert tab.locator("nav a[href='#flips']").bounding_box()["y"] >= 0, "it stays beside what is read"
    tab.close()


def test_nothing_is_fetched(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r'(?:src|href|srcset)="(?!data:|#)', text)
    assert "http" not in re.sub(r"data:[^\"]*", "", text)


@pytest.mark.usefixtures("without_plots")
def test_report_changes_nothing(shop: Workspace, tmp_path: Path) -> None:
    def state() -> dict[str, bytes]:
        folder = shop.directory
        files = [folder / "workspace.json", folder / "log.jsonl", *(folder / "checks").iterdir()]
        return {path.name: path.read_bytes() for path in files}

    before = state()
    shop.report(HELD_OUT, path=tmp_path / "report.html")
    assert state() == before


def test_flips_are_pictured_with_their_classes(shop: Workspace, page: Path) -> None:
    text = page.read_text()
    pair = shop.check("v3", shop.directory.parent / "photos", against="v1").pairs[0]
    for title, changed in (("Lost", pair.negative), ("Won", pair.positive)):
        part = text[text.index(f"<h3>{title}") :]
        part = part[: re.search(r"<h3>Won|</section>", part[5:]).start() + 5]  # type: ignore[union-attr]
        shown = re.findall(r'<img src="data:image/png[^"]*" alt="(query|before|after): ([^"]+)">', part)
        assert len(shown) == 3 * min(6, len(changed))
        possible = {
            tuple(HELD_OUT.classes[HELD_OUT.labels[index]] for index in (flip.query, flip.before, flip.after))
            for flip in changed
        }
        names = [name for _, name in shown]
        assert {tuple(names[start : start + 3]) for start in range(0, len(names), 3)} <= possible


def sections_of(text: str) -> tuple[list[str], list[str]]:
    """The sections of a page, and where its side navigation leads."""
    return re.findall(r'<section id="([\w-]+)"', text), re.findall(r'<li><a href="#([\w-]+)"', text)


def test_without_held_out_images_it_shows_the_newest_check_that_is_kept(shop: Workspace, tmp_path: Path) -> None:
    with fresh(shop, tmp_path) as space:
        pair = space.check("v2", HELD_OUT, against="v1").pairs[0]
        report = space.report(path=tmp_path / "report.html")
    text = report.path.read_text()
    evidence = pair.evidence
    assert any(sentence == f"v2 against v1: {pair.verdict}: {pair.reason}" for sentence in report.findings)
    shown = ["standing", "lineage", "verdict", "matrix", "checks", "history"]
    assert sections_of(text) == (shown, shown), "what nothing is known of is left out"
    cells = re.findall(r"<td[^>]*--heat: [^>]*><strong>([\d.]+)</strong>", text)
    assert cells == [f"{100 * evidence.recall(test):.1f}" for test in ("old self", "cross", "new self")]
    verdict = text[text.index('<section id="verdict"') : text.index('<section id="matrix"')]
    assert f"The check of {moment(evidence.time)} has measured this" in plain(verdict)
    for condition in pair.conditions:
        assert words_of(condition.measured) in plain(verdict)
    assert text.count("<code>evergallery report v2 --data HELD_OUT</code>") == 1
    assert "v3 is newer, and no check of it is kept" in plain(text)
    assert "from v1 by evergreen" in text
    assert "check" in text[text.index('id="history"') :]


def test_a_generation_that_was_never_checked_has_a_hint_and_no_empty_section(shop: Workspace, tmp_path: Path) -> None:
    with fresh(shop, tmp_path) as space:
        space.check("v2", HELD_OUT, against="v1")
        text = space.report(generation="v3", path=tmp_path / "report.html").path.read_text()
        against = space.report(against="v2", path=tmp_path / "against.html").path.read_text()
    for page in (text, against):
        assert sections_of(page)[0] == sections_of(page)[1] == ["standing", "lineage", "checks", "history"]
        assert page.count("<code>evergallery report --data HELD_OUT</code>") == 1


def test_the_check_is_judged_by_the_gate_of_today(shop: Workspace, tmp_path: Path) -> None:
    with fresh(shop, tmp_path) as space:
        space.check("v2", HELD_OUT, against="v1")
        (space.directory / "gate.toml").write_text("queries = 100000\n")
        report = space.report(path=tmp_path / "report.html")
    assert "The gate is not passed; not met: queries." in report.findings


def test_empty_workspace_is_written_to_itself(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "empty") as space:
        report = space.report()
        assert report.path == tmp_path / "empty" / "report.html"
        text = report.path.read_text()
        assert "<code>evergallery learn IMAGES</code>" in text
        assert "<code>evergallery index IMAGES</code>" in text


@pytest.mark.usefixtures("without_plots")
def test_embeddings_without_pictures_name_their_flips(shop: Workspace, tmp_path: Path) -> None:
    labels = np.array(HELD_OUT.classes)[HELD_OUT.labels]
    arrays: dict[str, Any] = {generation.name: shop.extract(generation, HELD_OUT) for generation in shop.generations()}
    np.savez(tmp_path / "held-out.npz", labels=labels, **arrays)
    text = shop.report(tmp_path / "held-out.npz", path=tmp_path / "report.html").path.read_text()
    section = text[text.index('<section id="flips"') : text.index('<section id="prototypes"')]
    assert "data:image/png" not in section
    assert "came without pictures" in section


@pytest.mark.usefixtures("without_plots")
def test_unlabelled_images_are_agreed_upon_only(shop: Workspace, tmp_path: Path) -> None:
    unlabelled = ImageSet(
        HELD_OUT.pixels, HELD_OUT.rows, np.full(len(HELD_OUT), -1), (), HELD_OUT.uris, HELD_OUT.hashes
    )
    report = shop.report(unlabelled, path=tmp_path / "report.html")
    text = report.path.read_text()
    assert any("the same first one" in sentence for sentence in report.findings)
    assert "have no labels" in report.findings[-1]
    assert '<section id="matrix"' not in text


@pytest.mark.usefixtures("without_plots")
def test_one_generation_has_a_matrix_and_nothing_to_compare(tmp_path: Path, quick: Callable[..., Settings]) -> None:
    with Workspace.create(tmp_path / "shop", backbone="resnet8", size=16) as space:
        space.learn(coloured_images(classes=4), settings=quick(epochs=1))
        text = space.report(coloured_images(classes=4, seed=3)).path.read_text()
    assert text.count("--heat: 1") == 1
    assert text.count("v1 has no older generation beside it") == 1
    assert '<section id="flips"' not in text


@pytest.mark.usefixtures("without_plots")
def test_another_process_may_have_the_gallery(shop: Workspace, tmp_path: Path) -> None:
    _ = shop.gallery.count()
    other = Workspace(shop.directory)
    text = plain(other.report(HELD_OUT, path=tmp_path / "report.html").path.read_text())
    assert "could not be counted" in text
    assert "There is no plan for the gallery" in text


def test_adapters_are_listed_and_serve_once_they_are_stored(shop: Workspace, tmp_path: Path) -> None:
    copy = copied(shop.directory, tmp_path / "shop", without=(".lock",))
    with Workspace(copy) as space:
        made = space.adapt("v3", "v1", HELD_OUT, kind="procrustes").adapter.card
        text = space.report().path.read_text()
    row = re.search(r'<tr><th scope="row">a1</th>(.*?)</tr>', text)
    assert row is not None
    assert re.findall("<td>(.*?)</td>", row[1]) == ["v3", "v1", made.kind, "queries"]


def test_only_a_stored_adapter_serves() -> None:
    labels = torch.arange(8).repeat_interleave(20)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 16, generator=draw)[labels] + 0.5 * torch.randn(160, 16, generator=draw)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=draw))[0]
    old, new = (F.normalize(part).numpy() for part in (rows, rows @ turn))
    pixels = np.arange(160 * 3, dtype=np.uint8).reshape(160, 1, 1, 3)
    images = ImageSet.from_arrays(pixels, labels.numpy(), [str(number) for number in range(8)])
    protocol = Protocol(images, np.arange(160), np.arange(160), "every image among the others")
    spaces = (EmbeddedSpace("v2", "2", new, ()), EmbeddedSpace("v1", "1", old, ()))
    gate = Gate(cross_test=-2.0)
    estimated = check_pair(Pairing(protocol, *spaces, gate))
    stored = check_pair(Pairing(protocol, *spaces, gate), adapters={"a1": (old, spaces[1].embeddings)})
    assert [pair.verdict for pair in (estimated, stored)] == ["compatible after an adapter"] * 2
    assert estimated.serves is estimated.evidence
    assert stored.serves.adapter == "a1"


def test_damaged_evidence_is_named(shop: Workspace, tmp_path: Path) -> None:
    broken = shop.directory / "checks" / "v9-in-v1.json"
    broken.write_text(json.dumps({"verdict": "compatible"}))
    try:
        assert "checks/v9-in-v1.json cannot be read" in shop.report(path=tmp_path / "report.html").path.read_text()
    finally:
        broken.unlink()


def test_where_it_cannot_be_written_is_said_at_once(shop: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder; name a file in it"):
        shop.report(HELD_OUT, path=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        shop.report(HELD_OUT, path=tmp_path / "file" / "report.html")


def test_which_generations_are_compared(shop: Workspace) -> None:
    def names(*asked: str | None) -> tuple[str, str | None]:
        candidate, base = choose(shop.holdings, *asked)
        return candidate.name, base.name if base else None

    assert names(None, None) == ("v3", "v1"), "the newest against the promoted one"
    assert names("v2", None) == ("v2", "v1")
    assert names("v3", "v2") == ("v3", "v2")
    assert names("v1", None) == ("v1", None)
    with pytest.raises(InputError, match="v3 is not older than v2"):
        names("v2", "v3")


# In a browser

CONTRAST = """() => {
    const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
    const context = canvas.getContext('2d', {willReadFrequently: true});
    const rgba = colour => { context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
                             return [...context.getImageData(0, 0, 1, 1).data]; };
    const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const ground = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = rgba(getComputedStyle(e).backgroundColor); if (colour[3] === 255) return colour; }
        throw Error('no ground'); };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode; if (!node.data.trim()) continue;
        const e = node.parentElement;
        const [a, b] = [luminance(rgba(getComputedStyle(e).color)), luminance(ground(e))];
        found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), node.data.trim().slice(0, 40)]);
    }
    return found; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page: Path, browser: Any, scheme: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages: list[str] = []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on(
        "request", lambda request: messages.append(request.url[:60]) if request.url[:5] not in ("data:", "file:") else 0
    )
    tab.goto(page.absolute().as_uri())
    assert tab.title() == "Evergallery report: shop"
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out sideways"
    assert tab.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    assert tab.evaluate("[...document.images].every(image => image.alt)")
    faint = [(round(ratio, 2), text) for ratio, text in tab.evaluate(CONTRAST) if ratio < 4.5]
    assert faint == []
    assert messages == []
    tab.close()


def test_structure_for_those_who_do_not_see_it(page: Path, browser: Any) -> None:
    tab = browser.new_page()
    tab.goto(page.absolute().as_uri())
    assert [tab.locator(name).count() for name in ("header", "nav[aria-label]", "main", "footer", "h1")] == [1] * 5
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is skipped"
    assert tab.evaluate("[...document.querySelectorAll('section')].map(s => s.id).filter(Boolean)") == list(SECTIONS)
    assert tab.evaluate(
        "[...document.querySelectorAll('[aria-labelledby]')]"
        ".every(e => document.getElementById(e.getAttribute('aria-labelledby')))"
    )
    assert tab.evaluate("[...document.querySelectorAll('th')].every(th => th.scope && th.textContent.trim())")
    identifiers = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(identifiers) == len(set(identifiers))
    assert tab.evaluate(
        "[...document.querySelectorAll('a')].every(a => document.querySelector(a.getAttribute('href')))"
    )
    tab.close()


def test_keyboard_reaches_every_link_card_and_table_in_order(page: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(page.absolute().as_uri())
    # What is folded cannot be reached until it is unfolded.
    places = (
        "[...document.querySelectorAll('a, summary, button, [tabindex]')].filter((place) => place.checkVisibility())"
    )
    tab.evaluate(f"window.order = {places}")
    count = tab.evaluate("window.order.length")
    reached = []
    for _ in range(count):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("window.order.indexOf(document.activeElement)"))
    assert reached == list(range(count))
    tab.locator("summary").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("dl").first.is_visible()
    tab.close()

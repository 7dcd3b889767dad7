"""Roots: what may be opened of what stored items say about where their images are."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.data.listing import Entry, Listing
from evergallery.data.roots import EVERYWHERE, Roots, root_of
from evergallery.data.source_roots import SourceRoots
from evergallery.errors import InputError


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder that is allowed, private ones beside it, and links from one to the other."""
    for name in ("photos/cat", "photos-private", "private"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("photos/a.png", "photos/cat/b.png", "photos/b c.png", "photos-private/a.png", "private/a.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos/link").symlink_to(tmp_path / "private")
    (tmp_path / "photos/one.png").symlink_to(tmp_path / "private/a.png")
    (tmp_path / "photos/cat/inside.png").symlink_to(tmp_path / "photos/a.png")
    (tmp_path / "alias").symlink_to(tmp_path / "photos")
    return tmp_path


def test_files_below_a_root_and_no_others(disk: Path) -> None:
    roots = Roots([root_of(disk / "photos")])
    inside = ["photos/a.png", "photos/cat/b.png", "photos/../photos/a.png", "photos", "alias/a.png", "photos/cat/inside.png",
              "photos/missing.png", "photos//a.png", "photos/./a.png"]  # fmt: skip
    outside = ["private/a.png", "photos-private/a.png", "photos/../private/a.png", "photos/link/a.png", "photos/one.png",
               "photos/link/../private/a.png", "photos/cat/../../private/a.png", "", "alias/../private/a.png"]  # fmt: skip
    for name in inside:
        assert roots.admits(f"{disk}/{name}"), name
        assert roots.opened(f"{disk}/{name}") == os.path.realpath(disk / name)
        assert roots.admits(f"file://{disk}/{name}"), name
    for name in outside:
        assert not roots.admits(f"{disk}/{name}"), name
        assert not roots.admits(f"file://{disk}/{name}"), name
    for form in (
        "local://{}",
        "FILE://{}",
        "file:{}",
        "simplecache::file://{}",
        "zip://x::file://{}",
        "dir://{}",
        "\0{}",
    ):
        assert not roots.admits(form.format(disk / "photos/a.png")), form
        assert not roots.admits(form.format(disk / "private/a.png")), form
    assert not Roots().admits(str(disk / "photos/a.png"))
    assert Roots(["/"]).admits(str(disk / "private/a.png"))
    assert EVERYWHERE.admits(str(disk / "private/a.png"))
    assert EVERYWHERE.admits("http://10.0.0.1/a")


def test_a_root_may_be_one_file(disk: Path) -> None:
    roots = Roots([root_of(disk / "photos/a.png")])
    assert roots.admits(str(disk / "photos/a.png"))
    assert not roots.admits(str(disk / "photos/a.png.png"))
    assert not roots.admits(str(disk / "photos/b c.png"))


URLS = [
    # root, admitted, not admitted
    (
        "https://img.example/shop/",
        ["https://img.example/shop/a.png", "HTTPS://IMG.example:443/shop/x/a.png?size=2#x", "https://img.example/shop"],
        [
            "http://img.example/shop/a.png", "https://img.example/shop-private/a.png", "https://img.example/", "https://img.example",
            "https://img.example/shop/../admin", "https://img.example/shop/%2e%2e/admin", "https://img.example/shop/%252e%252e/admin",
            "https://img.example/shop/..%2fadmin", "https://img.example/shop/..%5cadmin", "https://img.example/shop/./../x",
            "https://img.example.evil.com/shop/a.png", "https://img.example@evil.com/shop/a.png",
            "https://evil.com@img.example@evil.com/shop/a.png", "https://evil.com\\@img.example/shop/a.png",
            "https://img.example:8443/shop/a.png", "https://img.example\t/shop/a.png", "https://img.example /shop/a.png", "https:///img.example/shop/a.png",
            "simplecache::https://img.example/shop/a.png", "zip://a.png::https://img.example/shop/a.zip",
            "https:/img.example/shop/a.png", "//img.example/shop/a.png", "http://169.254.169.254/latest/meta-data/",
        ],
    ),
    (
        "s3://bucket",
        ["s3://bucket/a.png", "s3://bucket/deep er/a b.png"],
        ["s3://bucket2/a.png", "gs://bucket/a.png", "s3a://bucket/a.png", "http://bucket/a.png", "s3://bucket.evil/a.png"],
    ),
    ("s3://bucket/photos", ["s3://bucket/photos/a.png"], ["s3://bucket/a.png", "s3://bucket/photos2/a.png"]),
    ("http://127.0.0.1:8000/", ["http://127.0.0.1:8000/a"], ["http://127.0.0.1/a", "http://127.0.0.1:80000/a", "http://127.0.0.1:8000@x/a"]),
]  # fmt: skip


@pytest.mark.parametrize(("root", "inside", "outside"), URLS)
def test_urls_below_a_root_and_no_others(root: str, inside: list[str], outside: list[str]) -> None:
    roots = Roots([root_of(root)])
    for address in inside:
        assert roots.opened(address) == address
    for address in outside:
        assert not roots.admits(address), address


@pytest.mark.parametrize(
    "place", ["https://", "https:///x", "http://a\\b/", "s3://", "zip://::s3://b/x.zip", "https://x/../y"]
)
def test_what_can_be_no_root_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="no place of images"):
        root_of(place)


@given(st.text(max_size=60))
def test_nothing_is_opened_without_a_root(address: str) -> None:
    assert not Roots().admits(address)
    assert not Roots(["/nonexistent/photos", "https://img.example/x"]).admits(f"http://{address}")


def listing(*addresses: str | Path) -> Listing:
    return Listing([Entry(str(address)) for address in addresses])


def test_links_in_what_is_indexed_are_as_much_the_operators(disk: Path) -> None:
    found = SourceRoots(disk / "alias", None, [])
    assert found.root == str(disk / "photos")
    list(
        found.watched(
            listing(*(disk / "alias" / name for name in ("a.png", "link/a.png", "one.png", "cat/b.png")))
        ).entries
    )
    assert found.links == {str(disk / "private"), str(disk / "private/a.png")}
    assert found.outside == 0


def test_what_a_table_names_elsewhere_is_counted_and_nobodys(disk: Path) -> None:
    (disk / "photos/table.csv").write_text("path\n")
    found = SourceRoots(disk / "photos/table.csv", None, [])
    assert found.root == str(disk / "photos")
    named = listing(
        disk / "photos/a.png", disk / "private/a.png", f"{disk}/photos/../private/a.png", "s3://bucket/a.png"
    )
    assert len(list(found.watched(named).entries)) == 4
    assert (found.outside, found.links) == (3, set())
    assert found.example == str(disk / "private/a.png")
    assert SourceRoots(disk / "photos/table.csv", None, [str(disk)]).root == str(disk / "photos")


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1/a.png", "HTTPS://x/a.png", "ftp://x/a.png", "sftp://x/a", "simplecache::http://x/a", "zip://a::http://x/b",
     "zip://a::s3://bucket/b.zip", "smb://x/a", "github://o:r@main/a.png", "local:///etc/passwd"],
)  # fmt: skip
def test_a_table_sends_nobody_to_the_web_or_another_machine(disk: Path, address: str) -> None:
    (disk / "table.csv").write_text("path\n")
    with pytest.raises(InputError, match="only where you allow it, with  --images-from"):
        list(SourceRoots(disk / "table.csv", None, []).watched(listing(address)).entries)


def test_a_named_set_lies_where_it_is_said_that_sets_lie(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk / "omniglot").mkdir()
    monkeypatch.chdir(disk)
    assert SourceRoots("omniglot", disk / "photos", []).root == root_of(disk / "photos")
    assert SourceRoots("omniglot", None, []).root == root_of(disk / "omniglot")


def test_what_is_named_by_whoever_indexes_is_allowed() -> None:
    for source in ("https://x/table.csv", "https://x/table.parquet?v=2", "https://x/a.png"):
        found = SourceRoots(source, None, [])
        assert found.root == "https://x"
        assert len(list(found.watched(listing("https://x/b.png")).entries)) == 1
        with pytest.raises(InputError):
            list(found.watched(listing("https://y/b.png")).entries)
        assert len(list(SourceRoots(source, None, ["https://y/"]).watched(listing("https://y/b.png")).entries)) == 1
    assert SourceRoots("s3://bucket/photos/", None, []).root == "s3://bucket/photos"
    assert SourceRoots("glyphs", None, []).root is None

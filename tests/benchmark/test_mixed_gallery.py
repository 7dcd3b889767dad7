"""What a mixture of two generations finds, in small, and the page that says what the committed result says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.functional import normalize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mixed_gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import mixed_gallery

    yield mixed_gallery
    for name in ("mixed_gallery", "common"):
        sys.modules.pop(name, None)


def test_page_says_what_the_result_says(mixed_gallery: ModuleType) -> None:
    page = mixed_gallery.PAGE.read_text()
    between = page.partition("<!-- mixed gallery -->")[2].partition("<!-- end of mixed gallery -->")[0]
    assert between.strip() == mixed_gallery.written(mixed_gallery.recorded("mixed_gallery"))


def test_a_generation_of_two_parts_asks_old_vectors_with_the_first(mixed_gallery: ModuleType) -> None:
    """Served beside the root, it finds in the root's vectors what the root finds, whatever the second part is."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(20)
    centres = torch.randn(10, 8, generator=draw)
    old, learned = (normalize(centres[labels] + spread * torch.randn(200, 8, generator=draw)) for spread in (1.0, 0.1))
    new = torch.cat([old, learned], 1) / 2**0.5
    random = mixed_gallery.curves(old, new, labels, adapted=False)["random"]["cosine"]
    assert random[0] == pytest.approx(mixed_gallery.alone(old, labels))
    assert random[-1] == pytest.approx(mixed_gallery.alone(new, labels))
    assert random[-1] > random[0]

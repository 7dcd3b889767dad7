"""Decoding: every kind of image reads as the pixels a person sees, and nothing broken reads at all."""

import io
import json
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from evergallery import Workspace
from evergallery.data.images import REDUCED, Fit, Preprocessing, decode, pixels, read_pixels
from evergallery.data.images.parts import Box
from evergallery.data.images.sizes import Size, read_size, size_text
from evergallery.errors import InputError

DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (7, 5, 3), dtype=np.uint8)
GREY = DRAW.integers(0, 256, (7, 5), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes | Path) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    part = alpha[..., None] / 255.0
    return rgb * part + 255.0 * (1 - part)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_rgb(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decoded(encoded(Image.fromarray(RGB), kind, **options)), RGB)


def test_file_and_bytes_agree(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB))
    (tmp_path / "a.png").write_bytes(data)
    assert np.array_equal(decoded(tmp_path / "a.png"), decoded(data))


def test_grey_and_one_bit() -> None:
    assert np.array_equal(decoded(encoded(Image.fromarray(GREY))), grey(GREY))
    bits = GREY > 127
    assert np.array_equal(decoded(encoded(Image.fromarray(bits))), grey(bits * np.uint8(255)))


def test_transparency_lies_on_white() -> None:
    rgba = np.dstack([RGB, GREY])
    assert np.abs(decoded(encoded(Image.fromarray(rgba))) - on_white(RGB, GREY)).max() <= 1
    la = np.dstack([RGB[..., 0], GREY])
    assert np.abs(decoded(encoded(Image.fromarray(la))) - on_white(grey(RGB[..., 0]), GREY)).max() <= 1


def test_colour_key_transparency() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    found = decoded(encoded(image, transparency=(1, 2, 3)))
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_palette() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        image.putpixel((x, 0), x)
    assert decoded(encoded(image)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert decoded(encoded(image, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    partly = decoded(encoded(image, transparency=bytes([255, 0, 128])))[0]
    assert partly[1].tolist() == [255, 255, 255]
    assert np.abs(partly[2] - np.array([127, 127, 255])).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 1000, 32768, 65535]], dtype=np.uint16)
    expected = grey(np.rint(values / 257).astype(np.uint8))
    assert np.array_equal(decoded(encoded(Image.fromarray(values), kind)), expected)


def test_floats() -> None:
    unit = np.array([[0, 0.25, 1]], dtype=np.float32)
    assert decoded(encoded(Image.fromarray(unit), "TIFF"))[0, :, 0].tolist() == [0, 64, 255]
    bytes_ = np.array([[0, 64, 200]], dtype=np.float32)
    assert decoded(encoded(Image.fromarray(bytes_), "TIFF"))[0, :, 0].tolist() == [0, 64, 200]
    other = np.array([[-10, 0, 10]], dtype=np.float32)
    assert decoded(encoded(Image.fromarray(other), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(InputError, match="not finite"):
        decode(encoded(Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)), "TIFF"))


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        assert np.abs(decoded(encoded(cmyk, kind)).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    # How a camera stores the scene so that this orientation turns it upright.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= 16


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_a_network_sees_the_decoded_image_and_whoever_keeps_it_has_no_reader_of_a_file(kind: str) -> None:
    data = encoded(scene(61, 47), kind)
    image = decode(data)
    assert type(image) is Image.Image, "the reader of a file pins its bytes"
    for preprocessing in (Preprocessing(size=16), Preprocessing(size=16, fit="pad"), Preprocessing(size=47)):
        assert (read_pixels(data, preprocessing) == pixels(image, preprocessing)).all()


def test_a_jpeg_is_not_copied_on_its_way_to_a_network() -> None:
    data = encoded(scene(61, 47), "JPEG")
    with patch.object(Image.Image, "copy") as copied:
        read_pixels(data, Preprocessing(size=16))
    copied.assert_not_called()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    red, blue = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, save_all=True, append_images=[blue], duration=50, **options)
    assert np.array_equal(decoded(data), np.asarray(red))


def test_refused(tmp_path: Path) -> None:
    good = encoded(Image.fromarray(DRAW.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    for data, reason in (
        (b"", "empty"),
        (b"hello world" * 20, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image"),
        (good[: len(good) // 2], "truncated"),
        (good[:200] + bytes(100) + good[300:], "damaged"),
    ):
        with pytest.raises(InputError, match=reason):
            decode(data)
    with pytest.raises(InputError, match=r"nothing\.png cannot be read as an image: there is no such file"):
        decode(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="it is a directory"):
        decode(tmp_path)
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="not a regular file"):
        decode(fifo)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    path.chmod(0)
    with pytest.raises(InputError, match="permission"):
        decode(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_truncated_is_refused_or_whole(kind: str) -> None:
    scene = Image.fromarray(DRAW.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    data = encoded(scene, kind)
    whole = decoded(data)
    for length in np.linspace(1, len(data) - 1, 40).astype(int):
        try:
            found = decoded(data[:length])
        except InputError:
            continue
        assert np.array_equal(found, whole), length


def test_large_images_are_refused_by_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (300, 200)))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match="300 x 200 pixels, more than the 50,000 allowed"):
        decode(data, max_pixels=50_000)


@pytest.mark.parametrize("limit", [30, 50])
def test_the_limit_is_ours_and_not_that_of_pillow(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    data = encoded(Image.new("L", (10, 8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert decode(data).size == (10, 8)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_no_warning_leaks_and_filters_are_restored() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    data = encoded(image, transparency=bytes([9, 8]))
    exif = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09junk")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(decode, [data, exif] * 40))
    assert warnings.filters == before


def test_crop_keeps_the_centre() -> None:
    array = DRAW.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    found = pixels(Image.fromarray(array), Preprocessing(size=8, fit="crop"))
    assert np.array_equal(found, array[:, 2:10])
    found = pixels(Image.fromarray(array.transpose(1, 0, 2)), Preprocessing(size=8, fit="crop"))
    assert np.array_equal(found, array.transpose(1, 0, 2)[2:10])


def test_crop_scales_by_the_shorter_side() -> None:
    array = DRAW.integers(0, 256, (16, 40, 3), dtype=np.uint8)
    found = pixels(Image.fromarray(array), Preprocessing(size=4, interpolation="bilinear"))
    means = array[:, 12:28].reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    assert found.shape == (4, 4, 3)
    assert np.corrcoef(found.ravel(), means.ravel())[0, 1] > 0.8


def test_pad_is_white() -> None:
    found = pixels(Image.new("RGB", (8, 4)), Preprocessing(size=8, fit="pad"))
    assert (found[2:6] == 0).all()
    assert (found[:2] == 255).all()
    assert (found[6:] == 255).all()
    assert pixels(Image.new("RGB", (4000, 1)), Preprocessing(size=8, fit="pad")).shape == (8, 8, 3)


def test_stretch_and_antialiasing() -> None:
    stripes = np.zeros((64, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        found = pixels(Image.fromarray(stripes), Preprocessing(size=8, fit="stretch", interpolation=interpolation))
        assert found.shape == (8, 8, 3)
        assert np.abs(found[:, 1:-1].astype(int) - 127).max() <= 4


def test_same_size_is_untouched() -> None:
    array = DRAW.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for fit in ("crop", "pad", "stretch"):
        assert np.array_equal(pixels(Image.fromarray(array), Preprocessing(size=9, fit=fit)), array)


def test_rectangles() -> None:
    """Height 4 and width 2: the largest upright part of the middle; all of it with white beside; or stretched."""
    array = DRAW.integers(0, 200, (4, 10, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    assert np.array_equal(pixels(image, Preprocessing(size=(4, 2))), array[:, 4:6])
    wide = pixels(Image.fromarray(array.transpose(1, 0, 2)), Preprocessing(size=(2, 4)))
    assert np.array_equal(wide, array.transpose(1, 0, 2)[4:6]), "and across"
    padded = pixels(image, Preprocessing(size=(12, 10), fit="pad"))
    assert np.array_equal(padded[4:8], array)
    assert (padded[:4] == 255).all()
    assert (padded[8:] == 255).all()
    stretched = pixels(Image.new("RGB", (30, 7), (1, 2, 3)), Preprocessing(size=(256, 128), fit="stretch"))
    assert stretched.shape == (256, 128, 3)
    assert (stretched == (1, 2, 3)).all()


SIDES = st.integers(1, 5000)


class TestReducedJpegs:
    """Decoded at an eighth, a quarter or half of their size, where that is as much as a network sees."""

    @given(
        SIDES,
        SIDES,
        SIDES.filter(lambda side: side <= 512),
        SIDES.filter(lambda side: side <= 512),
        st.sampled_from(get_args(Fit)),
    )
    def test_no_pixel_that_is_seen_is_made_up(self, width: int, height: int, tall: int, wide: int, fit: Fit) -> None:
        prepared = Preprocessing(size=(tall, wide), fit=fit, decoding=REDUCED)
        scale = prepared.reduction(width, height)

        def enough(scale: int) -> bool:
            across, down = width / scale / wide, height / scale / tall
            return max(across, down) >= 1 if fit == "pad" else min(across, down) >= 1

        assert scale == 1 or enough(scale)
        assert scale == 8 or not enough(2 * scale), "and no fewer pixels would do"
        assert Preprocessing(size=(tall, wide), fit=fit).reduction(width, height) == 1

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 60}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_what_is_seen_is_nearly_what_the_whole_image_shows(self, mode: str, options: dict[str, Any]) -> None:
        image = scene(203, 157).convert(mode)
        data = encoded(image, "JPEG", **{"quality": 90, **options})
        prepared = Preprocessing(size=32, decoding=REDUCED)
        assert decode(data, reduction=prepared.reduction).size == (51, 40)
        whole = read_pixels(data, Preprocessing(size=32)).astype(float)
        assert np.abs(read_pixels(data, prepared) - whole).mean() < 3
        assert np.abs(read_pixels(data[:-2], prepared) - whole).mean() < 3, (
            "an end marker that is missing costs nothing"
        )
        with pytest.raises(InputError, match="truncated"):
            read_pixels(data[: len(data) // 2], prepared)

    def test_a_picture_that_lies_on_its_side_is_reduced_by_its_upright_shape(self) -> None:
        lying = Image.Exif()
        lying[0x0112] = 6
        data = encoded(scene(160, 320), "JPEG", exif=lying.tobytes(), quality=90)
        prepared = Preprocessing(size=(40, 80), decoding=REDUCED)
        assert decode(data, reduction=prepared.reduction).size == (80, 40)
        whole = read_pixels(data, Preprocessing(size=(40, 80))).astype(float)
        assert np.abs(read_pixels(data, prepared) - whole).mean() < 3

    def test_other_kinds_small_pictures_and_parts_are_decoded_whole(self) -> None:
        image = scene(100, 80)
        prepared, before = Preprocessing(size=32, decoding=REDUCED), Preprocessing(size=32)
        for data in (encoded(image), encoded(image.resize((50, 40)), "JPEG")):
            assert np.array_equal(read_pixels(data, prepared), read_pixels(data, before))
        data = encoded(image, "JPEG")
        part = Box(40, 20, 90, 70)
        assert np.array_equal(read_pixels(data, prepared, part=part), read_pixels(data, before, part=part))

    def test_more_than_the_limit_is_reduced_further(self) -> None:
        data = encoded(scene(400, 400), "JPEG")
        assert decode(data, reduction=lambda width, height: 2, max_pixels=11_000).size == (100, 100)

    def test_a_generation_says_so_and_has_a_space_of_its_own(self, tmp_path: Path) -> None:
        with Workspace.create(tmp_path / "shop", size=32, reduce_jpegs=True) as shop:
            assert shop.holdings.state.preprocessing["decoding"] == REDUCED
            reduced = shop.register("resnet20", pretrained=False, size=32, reduce_jpegs=True)
            whole = shop.register("resnet20", pretrained=False, size=32)
        assert (reduced.preprocessing.decoding, whole.preprocessing.decoding) == (3, 2)
        assert reduced.fingerprint != whole.fingerprint
        assert Preprocessing.from_dict(reduced.preprocessing.to_dict()) == reduced.preprocessing


def scene(width: int, height: int) -> Image.Image:
    """Smooth colours, as most of a photograph has."""
    coarse = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_a_rectangle_is_kept_and_a_square_is_a_number() -> None:
    found = Preprocessing(size=(256, 128))
    assert found.to_dict()["size"] == [256, 128]
    assert Preprocessing.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.recipe.startswith("256x128-")
    assert Preprocessing(size=(64, 64)) == Preprocessing(size=64), "the same space, with the same fingerprint"
    assert Preprocessing(size=(64, 64)).to_dict()["size"] == 64
    assert found.recipe != Preprocessing(size=(128, 256)).recipe


@pytest.mark.parametrize(
    ("text", "size"), [("224", 224), ("256x128", (256, 128)), ("256 × 128", (256, 128)), ("8X8", 8)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: Size) -> None:
    assert read_size(text) == size
    assert read_size(size_text(size)) == size


@pytest.mark.parametrize("text", ["", "x", "256x", "1x2x3", "-3", "2.5", "0", "256x5000", "big"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="The image size is "):
        read_size(text)


@pytest.mark.parametrize(("width", "height"), [(320, 256), (256, 320), (256, 256)])
def test_the_middle_of_a_resized_image(width: int, height: int) -> None:
    """The shorter side to 64, then the middle 56: as resizing and cutting, one after the other."""
    scene = Image.fromarray(DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8))
    usual = Preprocessing(size=56, kept=56 / 64)
    whole = scene.resize((width // 4, height // 4), Image.Resampling.BILINEAR)
    left, top = (whole.width - 56) // 2, (whole.height - 56) // 2
    by_hand = np.asarray(whole.crop((left, top, left + 56, top + 56)), dtype=int)
    found = pixels(scene, usual).astype(int)
    assert np.abs(found - by_hand).max() <= 1
    with_margins = pixels(scene, usual.with_margins).astype(int)
    assert with_margins.shape == (64, 64, 3)
    # At its ends a resized box and a resized whole look at other neighbours.
    assert np.abs(with_margins[5:59, 5:59] - found[1:-1, 1:-1]).max() <= 1


def test_what_is_kept_is_another_space_and_all_of_it_is_none() -> None:
    usual = Preprocessing(size=224, kept=0.875)
    assert Preprocessing.from_dict(usual.to_dict()) == usual
    assert usual.to_dict() != Preprocessing(size=224).to_dict()
    assert usual.recipe != Preprocessing(size=224).recipe
    assert "kept" not in Preprocessing(size=224, kept=1).to_dict()
    assert usual.with_margins == Preprocessing(size=256)
    assert Preprocessing(size=(224, 112), kept=0.875).with_margins.shape == (256, 128)
    assert usual.with_margins.with_margins == usual.with_margins
    # A JPEG is decoded at no less than is looked at.
    reduced = Preprocessing(size=224, kept=0.875, decoding=REDUCED)
    assert (reduced.reduction(500, 500), reduced.reduction(512, 512)) == (1, 2)


def test_preprocessing_round_trip() -> None:
    preprocessing = Preprocessing(size=64, fit="pad", interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert preprocessing.to_dict()["mean"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 2.5},
        {"size": True},
        {"size": [256]},
        {"size": [256, 0]},
        {"size": "256x128"},
        {"fit": "squash"},
        {"interpolation": "nearest"},
        {"kept": 0},
        {"kept": 1.1},
        {"kept": float("nan")},
        {"kept": 0.9, "fit": "pad"},
        {"mean": (1, 2)},
        {"std": (0, 1, 1)},
        {"std": "abc"},
        {"mean": (float("nan"), 0, 0)},
        {"colour": 1},
    ],
)
def test_preprocessing_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)) + "|three"):
        Preprocessing.from_dict(wrong)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_integers_fill_the_bits_that_they_have(bits: int, kind: str) -> None:
    values = np.linspace(0, (1 << bits) - 1, 64, dtype=np.uint16).reshape(8, 8)
    found = decoded(encoded(Image.fromarray(values), kind))[..., 0]
    assert np.abs(found - np.linspace(0, 255, 64).reshape(8, 8)).max() <= 1
    before = np.asarray(decode(encoded(Image.fromarray(values), kind), decoding=1))[..., 0]
    assert np.abs(before - values / 257).max() <= 1, "as generations of earlier versions have it"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_colours_of_sixteen_bits(bits: int) -> None:
    values = np.linspace(0, (1 << bits) - 1, 192).astype(">u2").reshape(8, 8, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(decoded(png) - np.linspace(0, 255, 192).reshape(8, 8, 3)).max() <= 1


def test_transparent_grey_of_sixteen_bits_is_white() -> None:
    values = np.full((4, 4), 1000, np.uint16)
    values[0] = 60000
    found = decoded(encoded(Image.fromarray(values), "PNG", transparency=60000))[..., 0]
    assert (found[0] == 255).all()
    assert np.abs(found[1:].astype(int) - round(1000 * 255 / 1023)).max() <= 1


def wide_profile() -> bytes:
    """The sRGB profile with the primaries of Display P3 in their place."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", data[128:132])
    tags = {bytes(data[place : place + 4]): struct.unpack(">I", data[place + 4 : place + 8])[0]
            for place in range(132, 132 + 12 * count, 12)}  # fmt: skip
    primaries = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    for tag, xyz in primaries.items():
        data[tags[tag] + 8 : tags[tag] + 20] = b"".join(struct.pack(">i", round(value * 65536)) for value in xyz)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_those_that_the_profile_means(kind: str, mode: str) -> None:
    plain = Image.fromarray(DRAW.integers(60, 190, (8, 8, 3), dtype=np.uint8))
    profile = wide_profile()
    wide = ImageCms.profileToProfile(
        plain, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), outputMode="RGB"
    )
    assert wide is not None
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(wide.convert(mode), kind, icc_profile=profile, **options)
    assert np.abs(decoded(data).astype(int) - np.asarray(plain)).max() <= 4
    assert np.abs(np.asarray(decode(data, decoding=1)).astype(int) - np.asarray(wide)).max() <= 1
    damaged = encoded(plain, "PNG", icc_profile=profile[:200])
    assert np.array_equal(decoded(damaged), np.asarray(plain)), "a damaged profile costs nothing"


def test_older_preprocessing_has_its_old_fingerprint() -> None:
    old: dict[str, Any] = {"size": 8, "fit": "crop", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    assert Preprocessing.from_dict(old).to_dict() == old
    assert Preprocessing.from_dict(old).decoding == 1
    new = Preprocessing(size=8)
    assert new.to_dict() == {**old, "decoding": 2}
    assert Preprocessing.from_dict(new.to_dict()) == new


def test_a_jpeg_without_its_end_marker_is_whole_and_a_shorter_one_is_not() -> None:
    scene = Image.fromarray(DRAW.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    data = encoded(scene, "JPEG")
    whole = decoded(data)
    assert np.array_equal(decoded(data[:-2]), whole)
    assert np.array_equal(decoded(data[:-1]), whole)
    with pytest.raises(InputError, match="truncated"):
        decode(data[: len(data) * 2 // 3])


def test_a_large_jpeg_is_decoded_smaller_and_other_formats_name_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Image.linear_gradient("L").resize((400, 300))
    assert decode(encoded(scene, "JPEG"), max_pixels=40_000).size == (200, 150)
    with pytest.raises(InputError, match=r"120,000|400 x 300 pixels, more than the 40,000 allowed.*--largest-image"):
        decode(encoded(scene, "PNG"), max_pixels=40_000)
    monkeypatch.setenv("EVERGALLERY_LARGEST_IMAGE", "40000")
    assert decode(encoded(scene, "JPEG")).size == (200, 150)


def test_jpeg_2000_is_upright() -> None:
    scene = Image.fromarray(DRAW.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    data = encoded(scene, "JPEG2000")
    box = struct.pack(">I", 24 + len(tiff)) + b"uuid" + b"JpgTiffExif->JP2" + tiff
    place = data.index(b"jp2c") - 4
    assert decode(data[:place] + box + data[place:]).size == (8, 12)


def test_high_efficiency_images() -> None:
    heif = pytest.importorskip("pillow_heif")
    scene = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    written = io.BytesIO()
    heif.from_pillow(scene).save(written, quality=95)
    assert decode(written.getvalue()).size == (64, 48)
    assert "raw format" in reason_of(b"\0\0\0\x18ftypcrx " + bytes(100))


def reason_of(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        decode(data)
    return str(caught.value)

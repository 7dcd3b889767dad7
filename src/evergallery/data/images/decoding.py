"""Decoding of a file's bytes to an image: upright, in 8-bit sRGB, in bounded memory."""

import functools
import io
import math
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from evergallery.data.images.colours import eight_bits, rgb
from evergallery.data.images.kinds import FORMATS, kind_of
from evergallery.data.images.parts import Part
from evergallery.data.images.preprocessing import DECODING, REDUCED, Preprocessing, pixels
from evergallery.data.images.reading import read_bytes
from evergallery.errors import InputError
from evergallery.strings.environment import LARGEST_IMAGE

Reduction = Callable[[int, int], int]
MAX_PIXELS = 64_000_000


def largest_image() -> int:
    """Pixels of the largest image that is decoded in full.

    Raises:
        InputError: the environment names no such number.
    """
    said = os.environ.get(LARGEST_IMAGE, "")
    if not said:
        return MAX_PIXELS
    if not said.isdecimal() or int(said) < 1:
        raise InputError(f"{LARGEST_IMAGE} is {said!r}: it must be a number of pixels, such as {MAX_PIXELS}.")
    return int(said)


def read_pixels(
    source: Path | bytes, preprocessing: Preprocessing, *, part: Part | None = None, max_pixels: int | None = None
) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a file, or of a part of it, that a network sees.

    Args:
        source: a file, or its bytes.
        preprocessing: of the network's input.
        part: what of the image is looked at, in pixels of its full size.
        max_pixels: as of ``decode``.

    Raises:
        InputError: as ``decode`` does.
    """
    if part is not None or preprocessing.decoding != REDUCED:
        image = _read(source, max_pixels, preprocessing.decoding, _whole)
        return pixels(image if part is None else part.of(image), preprocessing)
    whole: list[tuple[int, int]] = []

    def reduction(width: int, height: int) -> int:
        whole.append((width, height))
        return preprocessing.reduction(width, height)

    image = _read(source, max_pixels, preprocessing.decoding, reduction)
    if not whole:
        return pixels(image, preprocessing)
    # A side of 203 pixels becomes one of 51, of which the last shows three quarters.
    width, height = whole[-1]
    scale = 2 ** round(math.log2(max(width, height) / max(image.size)))
    return pixels(image, preprocessing, (width / scale, height / scale))


def _whole(width: int, height: int) -> int:
    return 1


def decode(
    source: Path | bytes,
    *,
    max_pixels: int | None = None,
    decoding: int = DECODING,
    reduction: Reduction = _whole,
) -> Image.Image:
    """The image of a file, upright, as 8-bit sRGB; the first frame of an animation.

    Transparent pixels lie on white. Integers of more than 8 bits are scaled from the fewest of 8, 10, 12, 14 and 16 bits that
    hold the image's values, floats within [0, 1] or [0, 255] by that range, others by their own. A JPEG that is too large is
    decoded at a half, a quarter or an eighth of its size.

    Args:
        source: a file, or its bytes.
        max_pixels: larger images are refused before they are decoded; ``largest_image()`` by default.
        decoding: as in ``Preprocessing``.
        reduction: by what the sides of a JPEG may be divided, from its upright width and height.

    Raises:
        InputError: corrupt, truncated, empty, no image, too large or unreadable; the message is the reason, and names
            the file where ``source`` is one.
    """
    image = _read(source, max_pixels, decoding, reduction)
    # A plain image, not the reader of a file, which pins its bytes.
    return image if type(image) is Image.Image else image.copy()


def _read(source: Path | bytes, max_pixels: int | None, decoding: int, reduction: Reduction) -> Image.Image:
    """Return what ``decode`` returns, or the reader of it, which need not be copied where it is resized at once."""
    if isinstance(source, bytes):
        return _decode(source, max_pixels or largest_image(), decoding, reduction)
    try:
        return _decode(read_bytes(source), max_pixels or largest_image(), decoding, reduction)
    except InputError as error:
        raise InputError(f"{source} cannot be read as an image: {error}") from error


def _decode(data: bytes, max_pixels: int, decoding: int, reduction: Reduction) -> Image.Image:
    if not data:
        raise InputError("the file is empty.")
    try:
        try:
            return _decoded(data, max_pixels, decoding, reduction)
        except OSError as error:
            if "truncated" not in str(error) or not data.startswith(b"\xff\xd8"):
                raise
            return _without_end_marker(data, error, lambda whole: _decoded(whole, max_pixels, decoding, reduction))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(_unread(kind_of(data[:64]))) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise InputError(
            f"it has more than the {max_pixels:,} pixels allowed: allow more with --largest-image."
        ) from None
    # Decoders answer damaged bytes with almost any exception: struct.error, zlib.error, SyntaxError, KeyError, ...
    except Exception as error:
        raise InputError(f"it is damaged or truncated ({str(error).strip() or type(error).__name__}).") from error


def _unread(kind: str | None) -> str:
    """Return why bytes that no reader knows cannot be read."""
    if kind == "HEIC" and "HEIF" not in Image.OPEN:
        return "it is a HEIC image: install its reader with  pip install 'evergallery[heif]'"
    if kind == "raw":
        return "it is in a camera's raw format: convert it to JPEG, PNG or TIFF."
    if kind is not None and kind not in Image.OPEN:
        return f"it is a {kind} image, which is not read here: convert it to JPEG, PNG or TIFF."
    return "it is not an image, or its header is damaged."


def _decoded(data: bytes, max_pixels: int, decoding: int, reduction: Reduction) -> Image.Image:
    with _quiet(max_pixels), _opened(data) as opened:
        image: Image.Image = opened
        if image.format == "TIFF" and (data[8:10] == b"CR" or _DNG_VERSION in getattr(image, "tag_v2", ())):
            raise InputError(_unread("raw"))
        width, height = image.size
        if isinstance(opened, JpegImagePlugin.JpegImageFile):
            scale = reduction(*((height, width) if _is_turned(opened) else (width, height)))
            if width * height > max_pixels * scale**2:
                scale = next((divisor for divisor in (2, 4, 8) if width * height <= max_pixels * divisor**2), 8)
            if scale > 1:
                opened.draft(None, (width // scale, height // scale))
        if image.size[0] * image.size[1] > max_pixels:
            raise InputError(
                f"it has {width} x {height} pixels, more than the {max_pixels:,} allowed: allow more with --largest-image."
            )
        tiles = list(opened.tile)
        image.load()
        if decoding > 1 and _is_deep(tiles):
            image = _all_bits(data, image, tiles)
        if decoding > 1 and image.format == "JPEG2000" and "exif" not in image.info:
            image.info["exif"] = _exif_of_jpeg2000(data)
        return rgb(_upright(image), decoding)


_DNG_VERSION = 50706


def _opened(data: bytes) -> ImageFile.ImageFile:
    # Opened by Pillow's function, a photo of more than 89 million pixels would be taken for an attack; here each is measured.
    if data.startswith(b"\xff\xd8") and not _is_stack(data):
        try:
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        except SyntaxError as error:
            raise UnidentifiedImageError from error
    return Image.open(io.BytesIO(data), formats=_formats())


def _is_stack(data: bytes) -> bool:
    """Return whether a JPEG is one of several images in a file, which Pillow has a reader of its own for."""
    return b"MPF\0" in data[: 1 << 16]


def _without_end_marker(data: bytes, error: OSError, decoded: Callable[[bytes], Image.Image]) -> Image.Image:
    """A JPEG whose end marker alone is missing: what is written in its place then changes no pixel."""
    whole = data.removesuffix(b"\xff")
    fillers = (b"", b"\x55\xaa" * 512, b"\xaa\x33" * 512)
    images = [decoded(whole + filler + b"\xff\xd9") for filler in fillers]
    if any(image.tobytes() != images[0].tobytes() for image in images[1:]):
        raise error
    return images[0]


_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def _all_bits(data: bytes, image: Image.Image, tiles: list[Any]) -> Image.Image:
    """A colour image of 16 bits a channel, of which Pillow takes the upper byte alone, with what the lower one says.

    Only where the values fill 14 bits or fewer, which would come out dark or black otherwise.
    """
    upper = np.asarray(image)
    colours = upper[..., :3]
    if image.mode not in ("RGB", "RGBA") or colours.max() >= 1 << 6:
        return image
    with _opened(data) as again:
        again.tile = [_other_byte(tile) for tile in tiles]
        again.load()
        values = (upper.astype(np.uint16) << 8) | np.asarray(again)
    grey = eight_bits(values[..., :3])
    made = Image.fromarray(grey if image.mode == "RGB" else np.dstack([grey, upper[..., 3]]))
    made.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return made


def _other_byte(tile: Any) -> Any:
    """A tile of a file that is read as if its bytes were in the other order."""
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, _, depth = str(arguments[0]).partition(";")
    changed = (f"{mode};{_OTHER_BYTE[depth]}", *arguments[1:])
    return tile._replace(args=changed if isinstance(tile.args, tuple) else changed[0])


def _is_deep(tiles: list[Any]) -> bool:
    """Return whether parts of a file hold colours of 16 bits a channel."""
    modes = [str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args) for tile in tiles]
    return bool(modes) and all(re.fullmatch(r"RGBA?;16[BLN]", mode) for mode in modes)


def _is_turned(image: Image.Image) -> bool:
    """Return whether the sides of an image change places when it is brought upright."""
    with suppress(Exception):
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return False


_ORIENTATION = 0x0112


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:
        # The orientation is lost with damaged EXIF data, the picture is not.
        return image


def _exif_of_jpeg2000(data: bytes) -> bytes:
    """The EXIF data that a JPEG 2000 file holds in a box of its own; none where it has none."""
    start = data.find(_JPEG2000_EXIF)
    if start < 4 or data[start - 4 : start] != b"uuid":
        return b""
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    exif = data[start + 16 : start - 8 + length if length else None]
    return exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif


_JPEG2000_EXIF = b"JpgTiffExif->JP2"


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_manager: Any = None
_pillows_limit: int | None = None


@contextmanager
def _quiet(max_pixels: int) -> Iterator[None]:
    """Silence the warnings of Pillow, and its own limit of pixels where it is below ours.

    Both are global to the process, so the first thread in saves them and the last one out restores them:
    with ``catch_warnings`` in each thread, filters that one thread set would outlive it.
    """
    global _quiet_depth, _quiet_manager, _pillows_limit
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_manager = warnings.catch_warnings()
            _quiet_manager.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _pillows_limit = Image.MAX_IMAGE_PIXELS
        if Image.MAX_IMAGE_PIXELS is not None:
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_manager.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = _pillows_limit

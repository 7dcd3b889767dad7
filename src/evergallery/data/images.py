"""From the bytes of an image to the square of pixels that a network sees."""

import functools
import io
import os
import re
import stat
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from evergallery.errors import InputError

Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

# Formats whose readers neither start other programs (EPS does) nor guess at files without a signature (TGA does).
FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "HEIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TIFF",
    "WEBP",
)
SUFFIXES = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".hif",
        ".ico",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pbm",
        ".pcx",
    }
    | {".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tif", ".tiff", ".webp"}
)
RAW_SUFFIXES = frozenset(
    {
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
    }
    | {".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
OTHER_PICTURES = RAW_SUFFIXES | frozenset(
    {
        ".ai",
        ".cur",
        ".dcm",
        ".dds",
        ".djvu",
        ".emf",
        ".eps",
        ".exr",
        ".fits",
        ".hdr",
        ".icns",
        ".j2c",
        ".j2k",
        ".jpc",
        ".jpf",
    }
    | {
        ".jpx",
        ".jxl",
        ".jxr",
        ".pict",
        ".psb",
        ".psd",
        ".ps",
        ".svg",
        ".tga",
        ".wbmp",
        ".wdp",
        ".wmf",
        ".xbm",
        ".xcf",
        ".xpm",
    }
)
"""What looks like a picture and is not read by its suffix; by its content it may be one that is."""
MAX_BYTES = 1 << 30
MAX_PIXELS = 64_000_000
LARGEST_IMAGE = "EVERGALLERY_LARGEST_IMAGE"
"""Name of the environment variable with another largest number of pixels; ``--largest-image`` sets it."""
AT_ONCE = 1 << 22
"""Values that are converted together."""
DECODING = 2
"""How files become pixels by now; see ``Preprocessing``."""
WHITE = (255, 255, 255)

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """From a file to network input; part of the fingerprint of an embedding space.

    Attributes:
        size: side of the square output, in pixels.
        fit: ``crop`` scales the shorter side to ``size`` and keeps the centre, ``pad`` scales the longer side and fills
            the rest with white, ``stretch`` ignores the aspect ratio.
        interpolation: antialiased resampling filter.
        mean: subtracted from each channel, in [0, 1].
        std: each channel is divided by it.
        decoding: 2, or 1 as generations of earlier versions have it: colours as they are stored whatever their profile, and
            integers of more than 8 bits as if they filled 16.

    Raises:
        InputError: a value is out of range.
    """

    size: int = 32
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    decoding: int = DECODING

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise InputError(f"The image size is {self.size!r}: it must be a whole number of pixels from 1 to 4096.")
        for name, value, known in (
            ("fit", self.fit, ("crop", "pad", "stretch")),
            ("interpolation", self.interpolation, tuple(_RESAMPLING)),
            ("decoding", self.decoding, tuple(range(1, DECODING + 1))),
        ):
            if value not in known:
                raise InputError(f"The {name} is {value!r}: it must be one of {', '.join(map(str, known))}.")
        for name in ("mean", "std"):
            try:
                numbers = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                numbers = ()
            if len(numbers) != 3 or not np.isfinite(numbers).all() or (name == "std" and min(numbers) <= 0):
                kind = "positive numbers" if name == "std" else "numbers"
                raise InputError(f"The {name} is {getattr(self, name)!r}: it must be three {kind}, one per channel.")
            object.__setattr__(self, name, numbers)

    @property
    def recipe(self) -> str:
        """What decides the decoded pixels, as a directory name: everything but ``mean`` and ``std``."""
        return f"{self.size}-{self.fit}-{self.interpolation}" + ("" if self.decoding == 1 else f"-{self.decoding}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what earlier versions did not know is left out where it is as it was then."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.decoding == 1:
            del values["decoding"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_dict`` gave.

        Raises:
            InputError: an unknown name or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"Preprocessing has no setting {unknown[0]!r}: it has {', '.join(_names(cls))}.")
        return cls(**{"decoding": 1, **values})


class MissingFileError(InputError):
    """There is no such file."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    uri: str
    reason: str


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


def decode(source: Path | bytes, *, max_pixels: int | None = None, decoding: int = DECODING) -> Image.Image:
    """The image of a file, upright, as 8-bit sRGB; the first frame of an animation.

    Transparent pixels lie on white. Integers of more than 8 bits are scaled from the fewest of 8, 10, 12, 14 and 16 bits that
    hold the image's values, floats within [0, 1] or [0, 255] by that range, others by their own. A JPEG that is too large is
    decoded at a half, a quarter or an eighth of its size.

    Args:
        source: a file, or its bytes.
        max_pixels: larger images are refused before they are decoded; ``largest_image()`` by default.
        decoding: as in ``Preprocessing``.

    Raises:
        InputError: corrupt, truncated, empty, no image, too large or unreadable; the message is the reason, and names
            the file where ``source`` is one.
    """
    if isinstance(source, bytes):
        return _decode(source, max_pixels or largest_image(), decoding)
    try:
        return _decode(read_bytes(source), max_pixels or largest_image(), decoding)
    except InputError as error:
        raise InputError(f"{source} cannot be read as an image: {error}") from error


def read_bytes(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        MissingFileError: there is none.
        InputError: the reason why not, without the path.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError("it is a directory.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError("it is not a regular file.")
        if status.st_size > MAX_BYTES:
            raise InputError(f"it has {status.st_size:,} bytes, more than the {MAX_BYTES:,} allowed.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError("there is no such file.") from None
    except PermissionError:
        raise InputError("permission to read it is denied.") from None
    except OSError as error:
        raise InputError(f"the file system reports: {error.strerror or error}.") from error


def pixels(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """An RGB image at the size of the network's input: (size, size, 3)."""
    size, resampling = preprocessing.size, _RESAMPLING[preprocessing.interpolation]
    width, height = image.size
    if preprocessing.fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((size, size), resampling, box=(left, top, left + side, top + side))
    elif preprocessing.fit == "stretch":
        image = image.resize((size, size), resampling)
    else:
        scale = size / max(width, height)
        fitted = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), resampling)
        image = Image.new("RGB", (size, size), WHITE)
        image.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return np.asarray(image, dtype=np.uint8)


def from_array(array: NDArray[np.uint8]) -> Image.Image:
    """The RGB image of an array (H, W), (H, W, 1), (H, W, 3) or, composited on white, (H, W, 4)."""
    return _rgb(Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def kind_of(head: bytes) -> str | None:
    """Which kind of picture begins with these bytes, at least 32 of them; ``None`` where it is none that is known."""
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[start : start + 4] for start in range(16, len(head) - 3, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
            return "HEIC"
        return "raw" if head[8:12] == b"crx " else None
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "raw" if head[8:10] == b"CR" else "TIFF"
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[:2] == b"BM":
        return "BMP" if len(head) >= 18 and head[14] in (12, 40, 52, 56, 64, 108, 124) else None
    return next((kind for start, kind in _BEGINNINGS.items() if head.startswith(start)), None)


_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"qoif": "QOI",
    b"8BPS": "PSD",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"IIRO": "raw",
    b"IIU\0": "raw",
    b"FUJIFILMCCD-RAW": "raw",
    b"\x76\x2f\x31\x01": "OpenEXR",
}


def _decode(data: bytes, max_pixels: int, decoding: int) -> Image.Image:
    if not data:
        raise InputError("the file is empty.")
    try:
        try:
            return _decoded(data, max_pixels, decoding)
        except OSError as error:
            if "truncated" not in str(error) or not data.startswith(b"\xff\xd8"):
                raise
            return _without_end_marker(data, error, max_pixels, decoding)
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
    """Why bytes that no reader knows cannot be read."""
    if kind == "HEIC" and "HEIF" not in Image.OPEN:
        return "it is a HEIC image: install its reader with  pip install 'evergallery[heif]'"
    if kind == "raw":
        return "it is in a camera's raw format: convert it to JPEG, PNG or TIFF."
    if kind is not None and kind not in Image.OPEN:
        return f"it is a {kind} image, which is not read here: convert it to JPEG, PNG or TIFF."
    return "it is not an image, or its header is damaged."


def _decoded(data: bytes, max_pixels: int, decoding: int) -> Image.Image:
    with _quiet(max_pixels), _opened(data) as opened:
        image: Image.Image = opened
        if image.format == "TIFF" and (data[8:10] == b"CR" or _DNG_VERSION in getattr(image, "tag_v2", ())):
            raise InputError(_unread("raw"))
        width, height = image.size
        if width * height > max_pixels and isinstance(opened, JpegImagePlugin.JpegImageFile):
            scale = next((one for one in (2, 4, 8) if width * height <= max_pixels * one**2), 8)
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
        return _rgb(_upright(image), decoding)


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
    """Whether a JPEG is one of several images in a file, which Pillow has a reader of its own for."""
    return b"MPF\0" in data[: 1 << 16]


def _without_end_marker(data: bytes, error: OSError, max_pixels: int, decoding: int) -> Image.Image:
    """A JPEG whose end marker alone is missing: what is written in its place then changes no pixel."""
    whole = data.removesuffix(b"\xff")
    fillers = (b"", b"\x55\xaa" * 512, b"\xaa\x33" * 512)
    images = [_decoded(whole + filler + b"\xff\xd9", max_pixels, decoding) for filler in fillers]
    if any(one.tobytes() != images[0].tobytes() for one in images[1:]):
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
    grey = _eight_bits(values[..., :3])
    made = Image.fromarray(grey if image.mode == "RGB" else np.dstack([grey, upper[..., 3]]))
    made.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return made


def _other_byte(tile: Any) -> Any:
    """The same part of a file, read as if its bytes were in the other order."""
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, _, depth = str(arguments[0]).partition(";")
    changed = (f"{mode};{_OTHER_BYTE[depth]}", *arguments[1:])
    return tile._replace(args=changed if isinstance(tile.args, tuple) else changed[0])


def _is_deep(tiles: list[Any]) -> bool:
    """Whether parts of a file hold colours of 16 bits a channel."""
    modes = [str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args) for tile in tiles]
    return bool(modes) and all(re.fullmatch(r"RGBA?;16[BLN]", mode) for mode in modes)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
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


def _rgb(image: Image.Image, decoding: int = DECODING) -> Image.Image:
    profile = image.info.get("icc_profile") if decoding > 1 else None
    if image.mode == "RGB" and "transparency" not in image.info:
        # A plain image, not the reader of a file, which pins its bytes.
        image = image if type(image) is Image.Image else image.copy()
        return _in_srgb(image, profile)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        clear = image.info.get("transparency") if decoding > 1 else None
        is_clear = values == clear if isinstance(clear, int) else None
        grey = _eight_bits(values, decoding, is_clear)
        return _in_srgb(Image.fromarray(grey), profile).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        with_alpha = _in_srgb(image.convert("RGBA"), profile)
        return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), with_alpha).convert("RGB")
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGB")
    return _in_srgb(image, profile).convert("RGB")


_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An 8-bit image with the colours that its profile means; as it is where it has none, or one that cannot be used."""
    if not profile or _SPACES.get(image.mode) != profile[16:20]:
        return image
    transform = _to_srgb(profile, image.mode)
    if transform is None:
        return image
    return ImageCms.applyTransform(image, transform) or image


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What brings colours to sRGB; ``None`` where they are there already, up to rounding, or the profile is damaged."""
    out = "RGBA" if mode == "RGBA" else "RGB"
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, out)
        if mode not in ("RGB", "RGBA", "L"):
            return made
        # Nearly every photo says sRGB, which costs nothing then; what it says is tried, whatever the profile is called.
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        colours = np.stack(np.meshgrid(*[steps] * 3), axis=-1).reshape(1, -1, 3)
        probe = Image.fromarray(colours if mode != "L" else np.arange(256, dtype=np.uint8)[None]).convert(mode)
        meant = ImageCms.applyTransform(probe, made)
        assert meant is not None
        shift = np.asarray(meant, dtype=np.int16) - np.asarray(probe.convert(out), dtype=np.int16)
        return None if np.abs(shift).max() <= 2 else made
    # Damaged profiles are as frequent as damaged EXIF data, and no reason to lose a picture.
    except Exception:
        return None


def _eight_bits(
    values: NDArray[Any], decoding: int = DECODING, clear: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Values (H, W[, C]) of more than 8 bits as 8 bits; those that are clear are white."""
    seen = values if clear is None or clear.all() else values[~clear]
    if values.dtype.kind == "f" and not np.isfinite(seen).all():
        raise InputError("it holds values that are not finite numbers.")
    low, high = float(seen.min()), float(seen.max())
    if np.issubdtype(values.dtype, np.integer):
        # Pillow gives 16-bit files as 16-bit or as 32-bit integers, according to their format.
        depths = (8, 10, 12, 14, 16) if decoding > 1 else (16,)
        fitting = [float((1 << depth) - 1) for depth in depths if high < 1 << depth]
        start, end = (0.0, fitting[0]) if low >= 0 and fitting else (low, high)
    elif low >= 0 and high <= 255:
        start, end = (0.0, 1.0) if high <= 1 else (0.0, 255.0)
    else:
        start, end = low, high
    bytes_ = np.full(values.shape, 128, np.uint8)
    if end != start:
        # A part at a time: as float64 the whole would take eight times as much as the picture.
        rows = max(1, AT_ONCE // max(1, values[0].size))
        for first in range(0, len(values), rows):
            part = values[first : first + rows].astype(np.float64)
            np.clip((part - start) * (255.0 / (end - start)), 0, 255, out=part)
            bytes_[first : first + rows] = np.rint(part)
    if clear is not None:
        bytes_[clear] = 255
    return bytes_


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


def _names(cls: type[Preprocessing]) -> list[str]:
    return [field.name for field in fields(cls)]

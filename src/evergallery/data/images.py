"""From the bytes of an image to the square of pixels that a network sees."""

import functools
import io
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from evergallery.errors import InputError

Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

# Formats whose readers neither start other programs (EPS does) nor guess at files without a signature (TGA does).
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pcx"}
    | {".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tif", ".tiff", ".webp"}
)
MAX_BYTES = 1 << 30
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

    Raises:
        InputError: a value is out of range.
    """

    size: int = 32
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise InputError(f"The image size is {self.size!r}: it must be a whole number of pixels from 1 to 4096.")
        for name, value, known in (
            ("fit", self.fit, ("crop", "pad", "stretch")),
            ("interpolation", self.interpolation, tuple(_RESAMPLING)),
        ):
            if value not in known:
                raise InputError(f"The {name} is {value!r}: it must be one of {', '.join(known)}.")
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
        return f"{self.size}-{self.fit}-{self.interpolation}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_dict`` gave.

        Raises:
            InputError: an unknown name or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"Preprocessing has no setting {unknown[0]!r}: it has {', '.join(_names(cls))}.")
        return cls(**values)


class MissingFileError(InputError):
    """There is no such file."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    uri: str
    reason: str


def decode(source: Path | bytes, *, max_pixels: int = 64_000_000) -> Image.Image:
    """The image of a file, upright, as 8-bit RGB; the first frame of an animation.

    Transparent pixels lie on white. 16-bit grey is scaled to 8 bits, as are floats: those within [0, 1] or [0, 255] by
    that range, others by their own.

    Args:
        source: a file, or its bytes.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        InputError: corrupt, truncated, empty, no image, too large or unreadable; the message is the reason, and names
            the file where ``source`` is one.
    """
    if isinstance(source, bytes):
        return _decode(source, max_pixels)
    try:
        return _decode(read_bytes(source), max_pixels)
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


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise InputError("the file is empty.")
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise InputError(f"it has {width} x {height} pixels, more than the {max_pixels:,} allowed.")
            image.load()
            return _rgb(_upright(image))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("it is not an image, or its header is damaged.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise InputError("it has too many pixels to be decoded safely.") from None
    # Decoders answer damaged bytes with almost any exception: struct.error, zlib.error, SyntaxError, KeyError, ...
    except Exception as error:
        raise InputError(f"it is damaged or truncated ({str(error).strip() or type(error).__name__}).") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # The orientation is lost with damaged EXIF data, the picture is not.
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        # A plain image, not the reader of a file, which pins its bytes.
        return image if type(image) is Image.Image else image.copy()
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), with_alpha).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError("it holds values that are not finite numbers.")
    low, high = float(numbers.min()), float(numbers.max())
    if np.issubdtype(values.dtype, np.integer):
        # Pillow gives 16-bit files as 16-bit or as 32-bit integers, according to their format.
        start, end = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    elif low >= 0 and high <= 255:
        start, end = (0.0, 1.0) if high <= 1 else (0.0, 255.0)
    else:
        start, end = low, high
    if end == start:
        return np.full(values.shape, 128, np.uint8)
    return np.rint((numbers - start) * (255.0 / (end - start))).astype(np.uint8)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_manager: Any = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of Pillow.

    The filters are global to the process, so the first thread in saves them and the last one out restores them:
    with ``catch_warnings`` in each thread, filters that one thread set would outlive it.
    """
    global _quiet_depth, _quiet_manager
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_manager = warnings.catch_warnings()
            _quiet_manager.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_manager.__exit__(None, None, None)


def _names(cls: type[Preprocessing]) -> list[str]:
    return [field.name for field in fields(cls)]

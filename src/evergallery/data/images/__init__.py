"""One file to pixels: reading it, knowing its kind, decoding it, and the pixels that a network sees; names load when used."""

from typing import TYPE_CHECKING

from evergallery.late import late_names

if TYPE_CHECKING:
    from evergallery.data.images.colours import from_array
    from evergallery.data.images.decoding import decode, read_pixels
    from evergallery.data.images.kinds import SUFFIXES, kind_of
    from evergallery.data.images.preprocessing import DECODING, REDUCED, Fit, Interpolation, Preprocessing, pixels
    from evergallery.data.images.reading import MAX_BYTES, MissingFileError, UnreadableImage, read_bytes

__all__ = [
    "DECODING",
    "MAX_BYTES",
    "REDUCED",
    "SUFFIXES",
    "Fit",
    "Interpolation",
    "MissingFileError",
    "Preprocessing",
    "UnreadableImage",
    "decode",
    "from_array",
    "kind_of",
    "pixels",
    "read_bytes",
    "read_pixels",
]

__getattr__ = late_names(
    __name__,
    {
        "colours": ("from_array",),
        "decoding": ("decode", "read_pixels"),
        "kinds": ("SUFFIXES", "kind_of"),
        "preprocessing": ("DECODING", "REDUCED", "Fit", "Interpolation", "Preprocessing", "pixels"),
        "reading": ("MAX_BYTES", "MissingFileError", "UnreadableImage", "read_bytes"),
    },
)

"""One file to pixels: reading it, knowing its kind, decoding it, and the pixels that a network sees."""

from evergallery.data.images.colours import from_array
from evergallery.data.images.decoding import decode, read_pixels
from evergallery.data.images.kinds import SUFFIXES, kind_of
from evergallery.data.images.preprocessing import DECODING, REDUCED, Fit, Interpolation, Preprocessing, pixels
from evergallery.data.images.reading import MAX_BYTES, MissingFileError, Skipped, read_bytes

__all__ = [
    "DECODING",
    "MAX_BYTES",
    "REDUCED",
    "SUFFIXES",
    "Fit",
    "Interpolation",
    "MissingFileError",
    "Preprocessing",
    "Skipped",
    "decode",
    "from_array",
    "kind_of",
    "pixels",
    "read_bytes",
    "read_pixels",
]

"""The kinds of pictures, by the names and by the first bytes of their files."""

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
    [
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
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".sgi",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
"""Suffixes of the files that are read."""
RAW_SUFFIXES = frozenset(
    [
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
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
"""Suffixes of what cameras write beside, or in place of, pictures."""
OTHER_PICTURES = RAW_SUFFIXES | frozenset(
    [
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
        ".jpx",
        ".jxl",
        ".jxr",
        ".pict",
        ".ps",
        ".psb",
        ".psd",
        ".svg",
        ".tga",
        ".wbmp",
        ".wdp",
        ".wmf",
        ".xbm",
        ".xcf",
        ".xpm",
    ]
)
"""Suffixes of pictures that are not read by their suffix; by its content such a file may be one that is."""

NOT_PICTURES = frozenset(
    [
        ".avi",
        ".csv",
        ".db",
        ".gz",
        ".html",
        ".ini",
        ".json",
        ".jsonl",
        ".log",
        ".md",
        ".mkv",
        ".mov",
        ".mp3",
        ".mp4",
        ".npy",
        ".npz",
        ".parquet",
        ".pdf",
        ".pkl",
        ".pq",
        ".pt",
        ".py",
        ".tar",
        ".txt",
        ".wav",
        ".xml",
        ".xmp",
        ".yaml",
        ".yml",
        ".zip",
    ]
)
"""Suffixes of what lies beside pictures everywhere, and need not be opened to know that it is none."""


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


def kind_of(head: bytes) -> str | None:
    """Return which kind of picture begins with these bytes, at least 32 of them; ``None`` where it is none that is known."""
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

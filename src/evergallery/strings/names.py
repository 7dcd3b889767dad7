"""Names that people give: one form for each, whatever system wrote it."""

import unicodedata


def normal(name: str) -> str:
    """A name in Unicode's form NFC: what looks the same and was typed on another system is the same name.

    What looks different stays different: ``m2`` and ``m²``, ``straße`` and ``strasse``.
    """
    return unicodedata.normalize("NFC", name)


def forms(name: str) -> tuple[str, ...]:
    """The forms that a name may have been stored in, the given one first."""
    if name.isascii():
        return (name,)
    return tuple(dict.fromkeys((name, normal(name), unicodedata.normalize("NFD", name))))


def natural(name: str) -> tuple[int, int, str]:
    """Numbers in numeric order before words in alphabetic order."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)

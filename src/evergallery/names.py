"""Names that people give: one form for each, whatever system wrote it."""

import unicodedata


def normal(name: str) -> str:
    """A name in Unicode's form NFC: what looks the same and was typed on another system is the same name.

    What looks different stays different: ``m2`` and ``m²``, ``straße`` and ``strasse``.
    """
    return unicodedata.normalize("NFC", name)


def forms(name: str) -> tuple[str, ...]:
    """The forms that a name may have been stored in, the given one first."""
    return tuple(dict.fromkeys((name, normal(name), unicodedata.normalize("NFD", name))))

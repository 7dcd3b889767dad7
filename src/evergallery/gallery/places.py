"""The place of a gallery: a directory, or a URL that may be written down."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from evergallery.errors import InputError
from evergallery.strings.redaction import redacted


def is_url(place: str | Path) -> bool:
    """Return whether a gallery is named by a URL, rather than by a directory."""
    return "://" in str(place)


def without_password(place: str) -> str:
    """A place as it may be written down and shown: without password, key, token and options; a directory is left as it is.

    Raises:
        InputError: the URL cannot be read.
    """
    if not is_url(place):
        return place
    try:
        parts = urlsplit(place)
    except ValueError as error:
        raise InputError(f"The URL of the gallery cannot be read ({error}): see docs/engines.md.") from None
    if "@" not in parts.netloc and "@" in place:
        raise InputError(
            "The URL of the gallery has / or ? in its password: leave the password out, or write %2F and %3F."
        )
    return redacted(place)


def options_of(url: str) -> list[str]:
    """Return what stands behind the question mark, option by option, as it is written."""
    return [option for option in urlsplit(url).query.split("&") if option]


def with_options(url: str, options: Sequence[str]) -> str:
    """The URL with these options in place of its own."""
    address = url.partition("?")[0]
    return f"{address}?{'&'.join(options)}" if options else address

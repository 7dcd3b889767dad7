"""Where a gallery is: a directory, or a URL that may be written down."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from evergallery.errors import InputError


def is_url(place: str | Path) -> bool:
    """Whether a gallery is named by a URL, rather than by a directory."""
    return "://" in str(place)


def without_password(place: str) -> str:
    """A place as it may be written down and shown; a directory is left as it is.

    Raises:
        InputError: the URL cannot be read.
    """
    if not is_url(place):
        return place
    try:
        parts = urlsplit(place)
    except ValueError as error:
        raise InputError(f"The URL of the gallery cannot be read ({error}): see docs/engines.md.") from None
    user, at, host = parts.netloc.rpartition("@")
    options = [one for one in parts.query.split("&") if "password" not in one.partition("=")[0].lower()]
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query="&".join(options)))

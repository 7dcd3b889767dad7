"""Addresses without their secrets, as they may be shown, logged and handed on.

What is secret is found by taking an address apart: the password before the host, or all that stands there where the address is
of the web; and the values of options whose names say so, behind ``?``, ``#`` and ``;``. It is left out, and the rest stays as it
was, to the letter.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

WEB = {"http", "https", "ws", "wss", "webdav", "webdavs", "qdrant"}
"""Schemes whose part before the host is there to be let in."""
NO_SECRET = {"github", "abfs", "abfss", "wasb", "wasbs", "az"}
"""Schemes whose part before the host belongs to the place."""
SECRET_PARTS = {
    "password", "passwd", "passphrase", "pwd", "pass", "pw", "secret", "token", "signature", "sig", "sign", "credential",
    "credentials", "auth", "authorization", "apikey", "key", "session", "sessionid", "jsessionid", "cookie", "jwt", "sas", "hmac",
    "otp", "pin", "rlkey", "policy", "bearer", "assertion", "code", "ticket", "nonce", "options",
}  # fmt: skip
SECRET_WORDS = re.compile(
    r"password|passwd|passphrase|secret|token|signature|credential|apikey|accesskey|authkey|privatekey|sessionid"
)
OPEN = {"require_auth", "passfile", "sslkey", "key_prefix"}
"""Options that sound secret, and name a file or a way."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s<>\"'`]+")


def redacted(address: str) -> str:
    """An address without its secrets; what has none, and a path, comes back as it is."""
    if "://" not in address:
        return address
    # fsspec's chains, such as zip://a.png::https://host/b.zip.
    return "::".join(_redacted(link) if "://" in link else link for link in address.split("::"))


def redacted_text(text: str) -> str:
    """A sentence without the secrets of the addresses in it."""
    if "://" not in text:
        return text
    return ADDRESS.sub(_in_text, text)


def redacted_values(value: Any) -> Any:
    """Return what goes into JSON, with every text in it redacted."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, dict):
        return {redacted_values(name): redacted_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(item) for item in value]
    return value


def is_secret(name: str) -> bool:
    """Return whether an option's name says that its value lets somebody in."""
    name = unquote(unquote(name))
    if name.lower() in OPEN:
        return False
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    together = re.sub(r"[^a-z0-9]", "", name.lower())
    return bool(
        {part.lower() for part in parts} & SECRET_PARTS or together in SECRET_PARTS or SECRET_WORDS.search(together)
    )


def _in_text(found: re.Match[str]) -> str:
    # What ends a clause, or a bracket around the address, is none of it.
    address = found[0].rstrip(".,;:!?)]}")
    return redacted(address) + found[0][len(address) :]


def _redacted(address: str) -> str:
    scheme, _, rest = address.partition("://")
    kind = scheme.lower().rpartition(":")[2].partition("+")[0]
    if kind in ("file", "local"):
        return address
    authority, place = _split(rest)
    return f"{scheme}://{_without_user(authority, kind)}{_without_options(place)}"


def _split(rest: str) -> tuple[str, str]:
    """Split an address into what stands before the place, and the place."""
    end = re.search(r"[/?#]", rest)
    authority, place = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    # A password may hold / ? or #, though it should not: its host is then behind the last @.
    _, colon, port = authority.rpartition("@")[2].rpartition(":")
    if colon and not port.isdigit() and not authority.endswith("]") and "@" in place:
        before, _, after = place.rpartition("@")
        host, place = _split(after)
        return f"{authority}{before}@{host}", place
    return authority, place


def _without_user(authority: str, kind: str) -> str:
    user, at, host = authority.rpartition("@")
    if not at or kind in NO_SECRET:
        return authority
    if kind in WEB:
        return host
    name, colon, _ = user.partition(":")
    # Of a token in the place of a name nobody can tell; of a password that stands alone everybody can.
    return f"{name}@{host}" if name or not colon else host


def _without_options(place: str) -> str:
    path, question, query = place.partition("?")
    if question:
        query, hash_, fragment = query.partition("#")
    else:
        path, hash_, fragment = path.partition("#")
        query = ""
    path = _kept(path, ";", first=True)
    if question:
        query = _kept(query, "&")
        question = "?" if query else ""
    if "=" in fragment:
        fragment = _kept(fragment, "&")
        hash_ = "#" if fragment else ""
    return f"{path}{question}{query}{hash_}{fragment}"


def _kept(text: str, separator: str, *, first: bool = False) -> str:
    """The options that are no secrets; ``first`` where the first part is none, but a path."""
    found = text.split(separator)
    head, options = (found[:1], found[1:]) if first else ([], found)
    kept = [bare for option in options if (bare := _without_secret(option, separator)) is not None]
    return separator.join([*head, *kept])


def _without_secret(option: str, separator: str) -> str | None:
    """One option, redacted; ``None`` where it is a secret."""
    # Some write a=1;b=2 behind the question mark.
    if separator == "&" and ";" in option:
        return _kept(option, ";") or None
    name, equals, value = option.partition("=")
    if is_secret(name) and (equals or separator == ";"):
        return None
    plain = unquote(value)
    if "://" in plain and (bare := redacted(plain)) != plain:
        return f"{name}={quote(bare, safe='')}"
    return option

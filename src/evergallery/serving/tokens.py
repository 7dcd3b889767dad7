"""Tokens: who may read, write, or decide what answers. The file holds salted hashes, never a token.

A token is 256 random bits, so that nobody finds one by trying: its hash is plain SHA-256, which costs a request microseconds.
Slow hashes such as scrypt protect what people think up, and would be paid for in every request here.

Once there was a token, tokens are demanded: the workspace's state remembers it, so that neither revoking the last one nor losing
the file lets everybody in.
"""

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evergallery.errors import DamagedError, InputError, NotFoundError
from evergallery.files import FileContents, lock, read_json, write_json
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.state import now

FILE = "tokens.json"
PREFIX = "evg"
NAMES = re.compile(r"[A-Za-z0-9._-]{1,64}")
Scope = Literal["read", "write", "admin"]


class Token(BaseModel):
    """The record that is kept of a token.

    Attributes:
        id: which it is, in the clear at the token's beginning, so that one hash is computed and not one for each token.
        name: for people and for the log.
        scope: the widest thing that it allows.
        salt: of the hash, hexadecimal.
        hash: SHA-256 of salt and token, hexadecimal.
        created: ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    scope: Scope
    salt: str
    hash: str
    created: str


class Tokens:
    """The tokens of a workspace, in ``tokens.json``; a change is seen by a running server at once.

    Args:
        directory: of the workspace.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._read = FileContents(_read)

    def all(self) -> list[Token]:
        """Every token, oldest first.

        Raises:
            DamagedError: the file cannot be read; then nobody is let in.
        """
        return self._read.get(self.path)

    def create(self, name: str, scope: Scope) -> str:
        """Make a token, and return it; it cannot be shown again.

        Raises:
            InputError: the name is taken, or has other signs than letters, digits, full stops, _ and -.
        """
        if not NAMES.fullmatch(name):
            raise InputError(f"The name {name!r} cannot be used: give up to 64 letters, digits, full stops, _ and -.")
        identifier, salt = secrets.token_hex(4), secrets.token_hex(16)
        token = f"{PREFIX}_{identifier}_{secrets.token_urlsafe(32)}"
        made = Token(id=identifier, name=name, scope=scope, salt=salt, hash=_hash(salt, token), created=now())
        with lock(self.path.with_name(".tokens.lock"), "changing tokens", wait=10):
            known = _read(self.path)
            if any(token.name == name for token in known):
                raise InputError(f"There is a token {name!r} already: choose another name, or revoke that one first.")
            # Before the token: a kill in between leaves a server that lets nobody in.
            with suppress(NotFoundError):
                self.demand()
            self._write([*known, made])
        return token

    def demand(self, demanded: bool = True) -> None:
        """Let the workspace remember whether tokens are demanded while there are none.

        Raises:
            NotFoundError: there is no workspace.
        """
        holdings = Holdings(self.path.parent)
        if holdings.state.require_token != demanded:
            with changing(holdings, "demanding tokens") as state:
                state.require_token = demanded

    def revoke(self, name: str) -> None:
        """Let nobody in by this token any more.

        Raises:
            NotFoundError: there is none of that name.
        """
        with lock(self.path.with_name(".tokens.lock"), "changing tokens", wait=10):
            known = _read(self.path)
            left = [token for token in known if token.name != name]
            if len(left) == len(known):
                raise NotFoundError(f"There is no token {name!r}: list them with  evergallery token list")
            self._write(left)

    def verify(self, token: str) -> Token | None:
        """The token that this is, or ``None``."""
        parts = token.split("_", 2)
        if len(parts) != 3 or parts[0] != PREFIX:
            return None
        for known in self.all():
            if known.id == parts[1] and hmac.compare_digest(known.hash, _hash(known.salt, token)):
                return known
        return None

    def _write(self, tokens: list[Token]) -> None:
        # For its owner alone, however open the workspace is.
        write_json(self.path, {"tokens": [token.model_dump() for token in tokens]}, private=True)


def _hash(salt: str, token: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + token.encode("utf-8", "replace")).hexdigest()


def _read(path: Path) -> list[Token]:
    if not path.is_file():
        return []
    try:
        return [Token.model_validate(entry) for entry in read_json(path)["tokens"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path} does not hold tokens: restore it from a backup, or delete it and make new ones."
        ) from error

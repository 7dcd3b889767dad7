"""The account of an endpoint: on which terms it is asked, and how much so far, in one file that all processes share."""

import time
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evergallery.errors import DamagedError, RefusedError
from evergallery.files import is_writable, lock, read_json, write_json

WAIT = 30.0
"""Seconds to wait for others who count, which takes them milliseconds."""


class Terms(BaseModel):
    """The terms on which an endpoint is asked.

    Attributes:
        key_env: name of the environment variable that holds the key; the key itself is read when it is needed, and never kept.
        batch: pictures in a request, at most.
        timeout: seconds for a request, at most.
        tries: of a request, in all.
        rate: requests a second, at most; ``None`` for any number.
        price_per_1000: of so many pictures, in whatever currency.
        max_cost: that may be spent in all.
        max_pictures: that may be asked for in all, those of tries that failed included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    batch: int = Field(default=16, ge=1, le=2048)
    timeout: float = Field(default=30.0, gt=0, le=3600)
    tries: int = Field(default=5, ge=1, le=20)
    rate: float | None = Field(default=None, gt=0)
    price_per_1000: float | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    max_pictures: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.max_cost is not None and self.price_per_1000 is None:
            raise ValueError("a largest cost needs a price: give --price-per-1000 too")
        return self

    @property
    def limited(self) -> bool:
        """Return whether the terms set a limit, so that requests must be counted."""
        return self.rate is not None or self.max_cost is not None or self.max_pictures is not None

    def cost(self, pictures: int) -> float | None:
        """The cost of so many pictures; ``None`` where they have no price."""
        return None if self.price_per_1000 is None else pictures * self.price_per_1000 / 1000


class Account:
    """The terms of an endpoint and what was asked of it, in a file.

    Args:
        path: of the file, which ``open`` has made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, terms: Terms) -> "Account":
        """Write terms down, in place of those there were; what was asked so far stays.

        Raises:
            BusyError: another process keeps the file.
        """
        path.parent.mkdir(exist_ok=True)
        account = cls(path)
        with lock(path.with_suffix(".lock"), "terms of an endpoint", wait=WAIT):
            said = account._read() if path.is_file() else {"pictures": 0, "requests": 0, "next": 0.0}
            write_json(path, said | {"terms": terms.model_dump(mode="json")})
        return account

    def forget(self) -> None:
        """Delete the account: nothing came of the endpoint."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)

    @property
    def terms(self) -> Terms:
        """The terms as they are now.

        Raises:
            DamagedError: the file is missing or altered.
        """
        return Terms.model_validate(self._read()["terms"])

    @property
    def pictures(self) -> int:
        """Return how many pictures were asked for so far."""
        return int(self._read()["pictures"])

    def take(self, pictures: int) -> float:
        """Count a request before it is made; returns the seconds to wait before it.

        Raises:
            RefusedError: it would be more than the terms allow.
        """
        terms = self.terms
        if not terms.limited and not is_writable(self.path.parent):
            return 0.0
        with lock(self.path.with_suffix(".lock"), "counting a request", wait=WAIT):
            said = self._read()
            terms = Terms.model_validate(said["terms"])
            after = said["pictures"] + pictures
            cost = terms.cost(after)
            if terms.max_cost is not None and cost is not None and cost > terms.max_cost:
                raise RefusedError(
                    f"Asking for {pictures} more pictures would come to {cost:g}, above the largest cost of {terms.max_cost:g} "
                    f"({said['pictures']} were asked for): register the endpoint again with a larger --max-cost."
                )
            if terms.max_pictures is not None and after > terms.max_pictures:
                raise RefusedError(
                    f"Asking for {pictures} more pictures would make {after}, and at most {terms.max_pictures} may be asked for: "
                    f"register the endpoint again with a larger --max-pictures."
                )
            now = time.time()
            # A clock that was set back makes nobody wait for long.
            turn = min(max(now, float(said["next"])), now + WAIT) if terms.rate else now
            following = turn + 1 / terms.rate if terms.rate else 0.0
            write_json(self.path, said | {"pictures": after, "requests": said["requests"] + 1, "next": following})
        return turn - now

    def _read(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = read_json(self.path)
            Terms.model_validate(said["terms"])
            if not all(isinstance(said[name], int | float) for name in ("pictures", "requests", "next")):
                raise TypeError
        except (DamagedError, ValidationError, TypeError, KeyError):
            raise DamagedError(
                f"{self.path} does not say how the endpoint is asked, or how much it was: restore it from a backup, or "
                f"delete it and register the endpoint again."
            ) from None
        return said

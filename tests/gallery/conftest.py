"""Every engine passes the same tests: ``place`` is where a new gallery of each may be."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from servers import directory, postgres, schema


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database with pgvector, or the reason why there is none."""
    with postgres() as url:
        yield url


@pytest.fixture(params=["edge", "postgres"])
def new_place(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[str]]:
    """Makes places for galleries of one engine; another joins the contract by a parameter here."""
    if request.param == "edge":
        return directory
    url = request.getfixturevalue("postgres_url")
    return lambda: schema(url)


@pytest.fixture
def place(new_place: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A directory or URL for a gallery that is not there yet."""
    with new_place() as place:
        yield place

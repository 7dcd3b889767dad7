"""The verb ``doctor``: everything that a workspace holds, and what may be compared in it."""

from evergallery.errors import DamagedError, InputError
from evergallery.holdings.examining import examine
from evergallery.holdings.holdings import Holdings
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.kept_evidence import read_check


def doctor(holdings: Holdings) -> list[str]:
    """Verify every checksum and count, every image file, check and token; returns what is wrong, a sentence each."""
    found = examine(holdings)
    try:
        gate_of(holdings)
    except InputError as error:
        found.append(str(error))
    for path in sorted((holdings.directory / "checks").glob("*-in-*.json")):
        try:
            read_check(path)
        except DamagedError as error:
            found.append(str(error))
    return found

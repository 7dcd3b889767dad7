"""The budget of memory for all requests at once."""

from evergallery.serving.failures import OverloadedError


class MemoryBudget:
    """Bytes of all requests that are being read or answered.

    Args:
        most: that may be held at once; whoever sends more is told to come again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            OverloadedError: there would be too many; nothing is held then.
        """
        if self._held + count > self._most:
            raise OverloadedError("The server holds as much of other requests as it may: try again in a moment.")
        self._held += count

    def give_back(self, count: int) -> None:
        """Hold so many bytes less."""
        self._held -= count

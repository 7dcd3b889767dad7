"""Counts of each space's vectors, for answers that say so: counting costs more than searching, so it is kept."""

import threading
import time
from collections.abc import Mapping

from evergallery.gallery.items import View
from evergallery.gallery.store import GalleryStore

LASTING = 2.0
"""Seconds for which a count is good enough to be told beside an answer."""


class Counts:
    """Counts by generation of the views that are asked for, a moment old at most.

    Args:
        store: to count in.
    """

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._known: dict[View, tuple[float, Mapping[str, int]]] = {}
        self._one_counter = threading.Lock()

    def of(self, view: View) -> Mapping[str, int]:
        """Items that a view sees, by fingerprint."""
        known = self._known.get(view)
        if known is not None and time.monotonic() - known[0] < LASTING:
            return known[1]
        # One thread counts; others have what was counted before, if anything was.
        if known is None:
            self._one_counter.acquire()
        elif not self._one_counter.acquire(blocking=False):
            return known[1]
        try:
            counts = self._store.count_by_generation(view=view)
            self._known = {**(self._known if len(self._known) < 16 else {}), view: (time.monotonic(), counts)}
            return counts
        finally:
            self._one_counter.release()

    def forget(self) -> None:
        """Count anew: something was stored or deleted."""
        self._known = {}

"""Items whose picture is no longer at their address."""

from collections.abc import Callable, Iterable, Sequence

from evergallery.data.places import is_below
from evergallery.data.spool import Addresses
from evergallery.gallery.items import Item
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.image_files import NAMES_KEPT, differs, is_there

AT_ONCE = 5000


class OutdatedItems:
    """Items whose picture is no longer at their address."""

    def __init__(self) -> None:
        self.changed = self.gone = 0
        self.first: list[str] = []

    def look(self, addresses: Addresses, items: Iterable[Sequence[Item]], root: str | None = None) -> None:
        """Go through stored items; those that are outdated are noted with the addresses."""
        for batch in items:
            for item in batch:
                if not item.uri or (root is not None and not is_below(item.uri, root)):
                    continue
                found, content = addresses.get(item.uri)
                if not found and (root is None or is_there(item.uri)):
                    continue
                if found and not differs(item, content):
                    continue
                self.changed += found
                self.gone += not found
                if self.changed + self.gone <= NAMES_KEPT:
                    self.first.append(item.uri)
                addresses.outdated(item.id)

    def prune(self, addresses: Addresses, store: GalleryStore, agreed: Callable[[str], bool]) -> int:
        """Delete them, if somebody agrees; returns how many."""
        count = self.changed + self.gone
        example = next(iter(self.first), "")
        question = (
            f"The pictures of {count} items are no longer at their addresses, such as {example}. Delete these items?"
        )
        if not count or not agreed(question):
            return 0
        return sum(store.delete(identifiers) for identifiers in addresses.all_outdated(AT_ONCE))

"""The durable gallery: stored embeddings of several generations, behind one small interface."""

from typing import TYPE_CHECKING

from evergallery.late import late_names

if TYPE_CHECKING:
    from evergallery.gallery.items import Filter, Index, Item, Match, PutCounts, View
    from evergallery.gallery.opening import open_store
    from evergallery.gallery.store import GalleryStore

__all__ = ["Filter", "GalleryStore", "Index", "Item", "Match", "PutCounts", "View", "open_store"]

__getattr__ = late_names(
    __name__,
    {
        "items": ["Filter", "Index", "Item", "Match", "PutCounts", "View"],
        "opening": ["open_store"],
        "store": ["GalleryStore"],
    },
)

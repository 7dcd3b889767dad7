"""The durable gallery: stored embeddings of several generations, behind one small interface."""

from evergallery.gallery.items import Filter, Index, Item, Match, PutCounts, View
from evergallery.gallery.opening import open_store
from evergallery.gallery.store import GalleryStore

__all__ = ["Filter", "GalleryStore", "Index", "Item", "Match", "PutCounts", "View", "open_store"]

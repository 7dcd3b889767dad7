"""Galleries by their place, whatever engine they have."""

from evergallery.gallery.opening.engines import (
    ENGINES,
    collection_places,
    gallery_places,
    look_at,
    open_store,
    require_target,
)

__all__ = ["ENGINES", "collection_places", "gallery_places", "look_at", "open_store", "require_target"]

"""Galleries by their place, whatever engine they have."""

from evergallery.gallery.opening.engines import ENGINES, look_at, open_store

__all__ = ["ENGINES", "look_at", "open_store"]

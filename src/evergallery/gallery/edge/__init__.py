"""The embedded engine: Qdrant Edge in this process, one shard per generation."""

from evergallery.gallery.edge.directory import engine_version
from evergallery.gallery.edge.store import EdgeStore

__all__ = ["EdgeStore", "engine_version"]

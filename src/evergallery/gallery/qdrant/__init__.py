"""The engine of a Qdrant server or cluster."""

from evergallery.gallery.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]

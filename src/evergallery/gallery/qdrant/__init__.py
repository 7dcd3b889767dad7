"""The engine of a Qdrant server or cluster.

``store.py`` is the engine, ``client.py`` its server, ``points.py`` makes points of items. ``adopted.py`` is a gallery over a
collection that somebody else keeps: ``collection.py`` reads it, ``adopting.py`` makes what lies beside it.
"""

from evergallery.gallery.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]

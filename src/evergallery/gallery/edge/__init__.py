"""The embedded engine: Qdrant Edge in this process, one shard per generation.

``store.py`` is the engine; ``directory.py`` says which shards there are, ``shard.py`` is one of them, ``points.py`` makes points
of items. ``windows.py`` reads several shards together, ``moves.py`` moves items between them, ``compacting.py`` builds their
indexes in another process. ``adopted.py`` is a gallery over a file of vectors that somebody else keeps.
"""

from evergallery.gallery.edge.directory import engine_version
from evergallery.gallery.edge.store import EdgeStore

__all__ = ["EdgeStore", "engine_version"]

"""Tables of vectors that somebody else has made: embeddings with their ids, as ``.npz``, ``.npy`` or Parquet.

Nothing is ever unpickled. A table is checked as a whole when it is opened, then read batch by batch.
"""

from evergallery.data.vectors.opening import open_vectors
from evergallery.data.vectors.table import VectorBatch, VectorTable
from evergallery.data.vectors.writing import write_vectors

__all__ = ["VectorBatch", "VectorTable", "open_vectors", "write_vectors"]

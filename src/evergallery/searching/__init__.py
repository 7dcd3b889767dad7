"""One ranking over the vectors of several generations."""

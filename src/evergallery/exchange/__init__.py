"""Models and vectors from elsewhere, and to elsewhere."""

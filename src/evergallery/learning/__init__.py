"""Learning: from images and a parent to a new generation."""

"""From images and a parent to a new generation."""

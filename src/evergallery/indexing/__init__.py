"""Images into the gallery."""

"""What a generation is on disk: its card, its fingerprint, its tensors."""

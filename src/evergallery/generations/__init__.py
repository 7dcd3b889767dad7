"""Generations on disk: card, fingerprint, tensors."""

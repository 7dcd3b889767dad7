"""The device that computes: the processor, or a GPU where there is enough to do."""

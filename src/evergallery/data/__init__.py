"""Images and their labels: decoding, caching, sources, named sets, tasks, sampling and augmentation."""

"""Pictures in, vectors out: by this process, or by the workers of a cluster."""

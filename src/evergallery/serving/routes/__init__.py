"""Routes over HTTP, a file a topic."""

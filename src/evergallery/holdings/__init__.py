"""The contents of a workspace's directory."""

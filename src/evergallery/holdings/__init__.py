"""What the directory of a workspace holds."""

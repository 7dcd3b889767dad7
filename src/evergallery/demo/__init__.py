"""The whole story on a few images, told by one command."""

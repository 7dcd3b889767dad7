"""The application over all routes, and the server that runs it."""

from evergallery.serving.app.application import create_app

__all__ = ["create_app"]

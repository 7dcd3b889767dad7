"""``python -m evergallery``."""

from evergallery.cli import main

if __name__ == "__main__":
    main()

"""Arguments of what is called from Python, refused in a sentence before anything is done with them."""

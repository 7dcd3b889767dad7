"""Reports with pictures: one self-contained HTML file each."""

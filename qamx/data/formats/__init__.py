"""Data of your own: a reader for each format, and the one source over all of them."""

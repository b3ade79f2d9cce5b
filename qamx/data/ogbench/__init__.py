"""OGBench data sets: names, download, generation, loading."""

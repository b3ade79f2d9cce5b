"""Offline data sets: generating, loading and sampling them."""

"""Shared helpers: files, terminal, HTML, machine, processes."""

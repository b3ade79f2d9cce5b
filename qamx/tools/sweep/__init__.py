"""Suites: their runs in processes, locally or on Slurm, and their progress."""

"""Suites carried out: their runs in processes, here or on Slurm, and how far each of them is."""

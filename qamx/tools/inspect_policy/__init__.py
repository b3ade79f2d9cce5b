"""`qamx inspect`: diagnostics of a run's policy."""

"""`qamx inspect`: a run's policy looked at from inside, for whoever asks why the run fails."""

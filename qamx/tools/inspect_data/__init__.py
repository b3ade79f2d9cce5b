"""`qamx data inspect`: a report on a data set before anything is trained on it."""

"""The runner: phases, updates, evaluation, checkpoints and logs of one run."""

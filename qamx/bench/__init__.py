"""What updates cost on this machine, on random data and without an environment."""

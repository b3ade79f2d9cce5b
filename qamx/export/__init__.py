"""Trained policies as folders that act without qamx's training code (`qamx.deploy`)."""

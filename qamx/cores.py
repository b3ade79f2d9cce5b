"""The processors of this machine, and keeping to them."""

import os


def usable_cores() -> int:
    """Those that a scheduler granted to this process, where the system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cpu() -> None:
    """Keeps JAX to the host's processor, before its first computation: an accelerator's memory may
    be a run's, which is not to be disturbed."""
    import jax

    jax.config.update("jax_platforms", "cpu")

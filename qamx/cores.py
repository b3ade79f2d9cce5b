"""The processors of this machine, and keeping to them."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Those that a scheduler granted to this process, and a container's quota pays for.

    A quota of 1.5 processors counts as two: one process alone would leave some of it unused.

    **Arguments:** `root` is the folder that has `proc` and `sys`.
    """
    granted = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        granted = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min([granted, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Processors that control groups let this process use, its own group's and those around it.

    What cannot be read, or understood, sets no limit. Sources: `cpu.max` in the kernel's
    admin-guide/cgroup-v2, `cpu.cfs_quota_us` in scheduler/sched-bwc.
    """
    for mount, group in _groups(root):
        place = mount / group.strip("/")
        # Inside a container the groups' names may be those outside; its own is then the mount.
        for folder in (place, *place.parents):
            if folder.is_relative_to(mount):
                with contextlib.suppress(OSError, ValueError):
                    yield _quota(folder)


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """Where control groups of processors are mounted, and the name of this process's in each."""
    mounts = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    yield from ((mounts, ""), (mounts / "cpu", ""))
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield mounts, group
            yield mounts / "unified", group
        elif "cpu" in controllers.split(","):
            yield mounts / controllers, group
            yield mounts / "cpu", group


def _quota(folder: Path) -> float:
    """The processors that a group may use.

    **Raises:** `OSError` or `ValueError` where it says nothing of them.
    """
    limit = folder / "cpu.max"
    if limit.exists():
        quota, period = map(int, limit.read_text().split())
    else:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    if quota <= 0 or period <= 0:
        raise ValueError("no limit")
    return quota / period


def use_cpu() -> None:
    """Keeps JAX to the host's processor, before its first computation: an accelerator's memory may
    be a run's, which is not to be disturbed."""
    import jax

    jax.config.update("jax_platforms", "cpu")

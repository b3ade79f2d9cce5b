"""The machine: usable cores, GPUs, and work in threads."""

import contextlib
import logging
import math
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from pathlib import Path
from typing import NamedTuple, TypeVar


def usable_cores(root: Path = Path("/")) -> int:
    """The number of cores that a scheduler and a container's quota grant to this process.

    A quota of 1.5 cores counts as two: one process alone would not use all of it.

    **Arguments:** `root` is the folder of `proc` and `sys`.
    """
    granted = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        granted = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min([granted, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas in cores of this process's control group and of those around it.

    A file that cannot be read or parsed sets no limit. Sources: `cpu.max` in the kernel's
    admin-guide/cgroup-v2, `cpu.cfs_quota_us` in scheduler/sched-bwc.
    """
    for mount, group in _groups(root):
        own = mount / group.strip("/")
        # In a container the groups' names may be those outside; its group is then the mount.
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount):
                with contextlib.suppress(OSError, ValueError):
                    yield _quota(folder)


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """The mounts of CPU control groups, and the name of this process's group in each."""
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
    """The quota of a group in cores.

    **Raises:** `OSError` or `ValueError` if it has none.
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
    """Restricts JAX to the CPU, before its first computation: a run may be using the accelerator's
    memory."""
    import jax

    jax.config.update("jax_platforms", "cpu")


SECONDS = 15.0
"""Timeout of nvidia-smi, which hangs if the driver does."""

# "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-...)", and below it for each part in use
# "  MIG 1g.5gb     Device  0: (UUID: MIG-c6d4f1ef-...)". Warnings stand on lines of their own.
_GPU = re.compile(r"GPU +([0-9]+):(?:.*\(UUID: *(GPU-[^)\s]+) *\))?")
_PART = re.compile(r"\s+MIG .*\(UUID: *(MIG-[^)\s]+) *\)")


class _Listed(NamedTuple):
    """A GPU as nvidia-smi lists it, with the UUIDs of its MIG parts."""

    number: str
    uuid: str
    parts: list[str]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them.

    The reason for one that cannot be used is logged as a warning.
    """
    names, trouble = find_gpus()
    if trouble:
        logging.getLogger("qamx").warning(trouble)
    return names


def find_gpus() -> tuple[list[str], str]:
    """The GPUs that CUDA shows to this process: those of `CUDA_VISIBLE_DEVICES`, else all.

    **Returns:** their names in that variable, and the message if there are fewer than expected.

    Without an answer of nvidia-smi the variable is not verified, and no GPU is known without it.
    """
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if granted is not None and not any(map(_name, granted.split(","))):
        return [], ""
    listed, trouble = _nvidia_smi()
    if granted is not None:
        names, refused = _granted(granted, listed)
        return names, refused or trouble
    if not any(gpu.parts for gpu in listed):
        return [gpu.number for gpu in listed], trouble
    # A part has no index, and next to parts CUDA numbers whole GPUs differently.
    return [n for gpu in listed for n in gpu.parts or [gpu.uuid or gpu.number]], trouble


def _nvidia_smi() -> tuple[list[_Listed], str]:
    """The GPUs that nvidia-smi lists, and the error; both empty where it is not installed."""
    from qamx._utils.processes import output_of

    try:
        done = output_of(["nvidia-smi", "-L"], SECONDS)
    except FileNotFoundError:
        return [], ""
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi: no answer within {SECONDS:g} s; see that the driver works"
    except OSError as error:
        return [], f"nvidia-smi: cannot be run ({error.strerror or error})"
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        message = f": {lines[0]}" if lines else ""
        failed = f"nvidia-smi: exit status {done.returncode}{message}"
        return [], f"{failed.rstrip('.')}; see that the driver works"
    listed: list[_Listed] = []
    for line in done.stdout.splitlines():
        if gpu := _GPU.match(line):
            listed.append(_Listed(gpu[1], gpu[2] or "", []))
        elif (part := _PART.match(line)) and listed:
            listed[-1].parts.append(part[1])
    return listed, ""


def _granted(value: str, listed: Sequence[_Listed]) -> tuple[list[str], str]:
    """The GPUs that CUDA shows for a value of `CUDA_VISIBLE_DEVICES`.

    It reads up to the first entry that names no GPU, such as -1, and shows none at all if one is
    named twice before.
    """
    text = f"CUDA_VISIBLE_DEVICES: found {value}"
    entries = value.split(",")
    named: dict[str, str] = {}
    for entry in entries:
        name = _name(entry)
        gpu = _lookup(name, listed)
        if not gpu:
            break
        if gpu in named:
            return [], f"{text}, which names {name} twice: CUDA shows none; write each once"
        named[gpu] = name
    names, rest = list(named.values()), entries[len(named) :]
    if not any(map(_name, rest)):
        return names, ""
    end, used = rest[0].strip() or "an empty entry", ", ".join(names) or "none"
    return names, f"{text}; CUDA reads it up to {end}, no GPU of this machine; used: {used}"


def _name(entry: str) -> str:
    """The GPU of an entry; empty for none. Of "1st" CUDA reads the number."""
    entry = entry.strip()
    if re.match(r"(GPU|MIG)-.", entry):
        return entry
    number = re.match(r"\+?([0-9]+)", entry)
    return str(int(number[1])) if number else ""


def _lookup(name: str, listed: Sequence[_Listed]) -> str:
    """The number or name of the GPU with a given name; empty if it is not on this machine.

    A unique prefix of a UUID is enough. MIG parts are returned as they are: they had other names
    before driver 470, which CUDA still reads.
    """
    uuids = {gpu.uuid: gpu.number for gpu in listed if gpu.uuid}
    if not listed or name.startswith("MIG-"):
        return name
    if name.isdecimal():
        return name if name in {gpu.number for gpu in listed} else ""
    fitting = [number for uuid, number in uuids.items() if uuid.lower().startswith(name.lower())]
    return fitting[0] if len(fitting) == 1 else "" if uuids else name


T = TypeVar("T")
R = TypeVar("R")

_JOIN_SECONDS = 2.0
"""Seconds in which the other threads may finish after a failure or Ctrl-C."""


def map_in_threads(
    work: Callable[[T], R], items: Sequence[T], threads: int, stop: threading.Event
) -> list[R]:
    """The results of `work` for all items, in their order.

    The first failure, and Ctrl-C, set `stop`, at which the work in progress should end.

    **Raises:** the first failure.
    """
    futures = [Future[R]() for _ in items]
    tasks = deque(zip(futures, items, strict=True))

    def run() -> None:
        with contextlib.suppress(IndexError):  # no task is left
            while not stop.is_set():
                future, item = tasks.popleft()
                try:
                    future.set_result(work(item))
                except BaseException as error:
                    future.set_exception(error)

    # Daemons: a thread that waits for a silent server must not delay the end of the process.
    pool = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, len(items)))]
    for thread in pool:
        thread.start()
    try:
        finished = wait(futures, return_when=FIRST_EXCEPTION).done
        failed = [future for future in futures if future in finished and future.exception()]
        return [future.result() for future in failed or futures]
    except BaseException:
        stop.set()
        for thread in pool:
            thread.join(_JOIN_SECONDS / len(pool))
        raise

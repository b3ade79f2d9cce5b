"""`qamx doctor`: what a run needs of this machine, each with a verdict and what to do."""

import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlparse

from qamx._utils.files import package_version
from qamx._utils.machine import find_gpus
from qamx._utils.processes import DEVICE, ENVIRONMENT, find_renderer, probe
from qamx._utils.terminal import print_table
from qamx.data.ogbench.catalogue import default_directory

GIGABYTE = 10**9
FEW_FILES = 1024
"""Open files below which a run with wandb and many environments may hit the limit."""

NETWORK_SECONDS = 3.0


class Diagnosis(NamedTuple):
    """One line of the report; `remedy` is empty where there is nothing to do."""

    subject: str
    verdict: Literal["ok", "warning", "problem"]
    found: str
    remedy: str = ""


def doctor() -> int:
    """Prints what was found; returns 1 if something keeps runs from working, else 0."""
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        findings = list(threads.map(lambda check: check(), CHECKS))
    print_table("this machine", ("", "", "", ""), findings)
    problems = sum(finding.verdict == "problem" for finding in findings)
    warnings = sum(finding.verdict == "warning" for finding in findings)
    print(f"problems: {problems}, warnings: {warnings}")
    return 1 if problems else 0


def device() -> Diagnosis:
    """Where JAX computes, tried with a sum."""
    works, said = probe(DEVICE)
    if not works:
        found, _, remedy = said.partition("; ")
        remedy = remedy or "see that jax and jaxlib fit each other and the driver"
        return Diagnosis("device", "problem", found, remedy)
    asked = os.environ.get("JAX_PLATFORMS", "").split(",")[0].strip() == "cpu"
    if asked or not said.startswith("cpu"):
        return Diagnosis("device", "ok", said)
    gpus = find_gpus()
    if gpus.names:
        remedy = 'install JAX for it: pip install -e ".[cuda13]" (or cuda12)'
        return Diagnosis(
            "device", "warning", f"{said}; NVIDIA GPUs are there: {', '.join(gpus.names)}", remedy
        )
    if gpus.trouble:
        remedy = "GPUs cannot be used until then; JAX_PLATFORMS=cpu does without"
        return Diagnosis("device", "warning", f"{said}; {gpus.trouble}", remedy)
    return Diagnosis("device", "ok", said)


def rendering() -> Diagnosis:
    """Whether an image can be drawn, as asked or at all. Training does without."""
    found = find_renderer()
    if not found.remedy:
        return Diagnosis("rendering", "ok", found.said)
    remedy = f"training goes on without; for videos: {found.remedy}"
    return Diagnosis("rendering", "warning", found.said, remedy)


def environment() -> Diagnosis:
    """Ten steps in an OGBench environment."""
    works, said = probe(ENVIRONMENT)
    if works:
        return Diagnosis("environment", "ok", said)
    remedy = (
        "see that ogbench, gymnasium and mujoco are whole: pip install --force-reinstall ogbench"
    )
    return Diagnosis("environment", "problem", said, remedy)


def data() -> Diagnosis:
    """The folder of the data sets, and the sets in it."""
    folder = default_directory()
    if not folder.is_dir():
        remedy = (
            "made when a set is (qamx data generate or download NAME); or name another in QAMX_DATA"
        )
        return Diagnosis("data", "warning", f"{folder}: no such folder", remedy)
    files = {path.stem for path in folder.glob("*.npz") if not path.stem.endswith("-val")}
    sets = sorted(files | {path.name for path in folder.glob("*-100m-v0") if path.is_dir()})
    listed = ", ".join(sets[:3]) + (", ..." if len(sets) > 3 else "")
    found = f"{folder}: {len(sets)} sets{': ' if sets else ''}{listed}"
    if not os.access(folder, os.W_OK):
        remedy = "sets can be read, but none made here: name a folder of yours in QAMX_DATA"
        return Diagnosis("data", "warning", f"{found}; not writable", remedy)
    if not sets:
        return Diagnosis(
            "data",
            "warning",
            found,
            "make or fetch one: qamx data generate NAME, qamx data download NAME",
        )
    return Diagnosis("data", "ok", found)


def disk() -> Diagnosis:
    """Room where runs and data go."""
    places = {"here": Path.cwd(), "data": _existing(default_directory())}
    free = {name: shutil.disk_usage(place).free / GIGABYTE for name, place in places.items()}
    found = ", ".join(f"{name}: {room:.0f} GB free" for name, room in free.items())
    least = min(free.values())
    if least < 1:
        return Diagnosis("disk", "problem", found, "a run's checkpoints need about 1 GB: make room")
    if least < 10:
        return Diagnosis(
            "disk", "warning", found, "make room for longer runs, or name --out elsewhere"
        )
    return Diagnosis("disk", "ok", found)


def wandb() -> Diagnosis:
    """Whether Weights & Biases could be used; runs do without."""
    if find_spec("wandb") is None:
        return Diagnosis("wandb", "warning", "not installed", "pip install wandb, if you want it")
    number = package_version("wandb") or "installed"
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    if not os.environ.get("WANDB_API_KEY") and not _has_login(host):
        return Diagnosis(
            "wandb", "ok", f"{number}, no login: logs offline (wandb login changes that)"
        )
    try:
        socket.create_connection((host, 443), NETWORK_SECONDS).close()
    except OSError as error:
        remedy = "--wandb offline keeps the logs, wandb sync sends them later"
        return Diagnosis("wandb", "warning", f"{number}, {host}: {error}", remedy)
    return Diagnosis("wandb", "ok", f"{number}, logged in, {host} answers")


def files() -> Diagnosis:
    """How many files a process may open."""
    if find_spec("resource") is None:
        return Diagnosis("open files", "ok", "no limit known")
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < FEW_FILES:
        return Diagnosis("open files", "warning", f"at most {limit}", f"ulimit -n {4 * FEW_FILES}")
    return Diagnosis("open files", "ok", f"at most {limit:,}" if limit >= 0 else "no limit")


CHECKS: tuple[Callable[[], Diagnosis], ...] = (
    device,
    environment,
    rendering,
    data,
    disk,
    wandb,
    files,
)
"""What is looked at, in the order of the report; all at the same time."""


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _has_login(host: str) -> bool:
    try:
        return netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False

"""`qamx doctor`: checks of the machine, with verdicts and remedies."""

import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlparse

from qamx._utils.files import package_version
from qamx._utils.machine import find_gpus
from qamx._utils.processes import DEVICE, ENVIRONMENT, SLOW, find_renderer, probe
from qamx._utils.terminal import print_table
from qamx.data.ogbench.catalogue import default_directory
from qamx.errors import install_extra

GIGABYTE = 10**9
FEW_FILES = 1024
"""Open files below which a run with wandb and many environments may hit the limit."""

NETWORK_SECONDS = 3.0

TRY_AGAIN = "try again when the machine is less busy; this tells nothing of the installation"


class Diagnosis(NamedTuple):
    """A line of the report; `remedy` may be empty."""

    topic: str
    verdict: Literal["ok", "warning", "problem"]
    found: str
    remedy: str = ""


def doctor() -> int:
    """Prints the report; returns 1 if a problem keeps runs from working, else 0."""
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        findings = list(threads.map(lambda check: check(), CHECKS))
    rows = [(each.topic, each.verdict, "; ".join(filter(None, each[2:]))) for each in findings]
    print_table("this machine", ("", "", ""), rows)
    problems = sum(finding.verdict == "problem" for finding in findings)
    warnings = sum(finding.verdict == "warning" for finding in findings)
    print(f"problems: {problems}, warnings: {warnings}")
    return 1 if problems else 0


def device() -> Diagnosis:
    """JAX's device, tried with a sum."""
    works, text = probe(DEVICE)
    if text.startswith(SLOW):
        return Diagnosis("device", "warning", text, TRY_AGAIN)
    if not works:
        found, _, remedy = text.partition("; ")
        remedy = remedy or "see that jax and jaxlib fit each other and the driver"
        return Diagnosis("device", "problem", found, remedy)
    asked = os.environ.get("JAX_PLATFORMS", "").split(",")[0].strip() == "cpu"
    gpus, trouble = ([], "") if asked or not text.startswith("cpu") else find_gpus()
    if gpus:
        remedy = f"install JAX for it (or cuda12): {install_extra('cuda13')}"
        there = f"{text}; NVIDIA GPUs are there: {', '.join(gpus)}"
        return Diagnosis("device", "warning", there, remedy)
    if trouble:
        remedy = "GPUs cannot be used until then; JAX_PLATFORMS=cpu does without"
        return Diagnosis("device", "warning", f"{text}; {trouble}", remedy)
    return Diagnosis("device", "ok", text)


def rendering() -> Diagnosis:
    """MuJoCo's rendering, which training does not need."""
    result = find_renderer()
    if not result.remedy:
        return Diagnosis("rendering", "ok", result.said)
    remedy = f"training works without; for videos: {result.remedy}"
    return Diagnosis("rendering", "warning", result.said, remedy)


def environment() -> Diagnosis:
    """Ten steps in an OGBench environment."""
    works, text = probe(ENVIRONMENT)
    if works:
        return Diagnosis("environment", "ok", text)
    if text.startswith(SLOW):
        return Diagnosis("environment", "warning", text, TRY_AGAIN)
    remedy = (
        "see that ogbench, gymnasium and mujoco are whole: pip install --force-reinstall ogbench"
    )
    return Diagnosis("environment", "problem", text, remedy)


def data() -> Diagnosis:
    """The directory of data sets."""
    folder = default_directory()
    if not os.path.isdir(folder):  # a folder that may not be looked into raises no error
        remedy = (
            "qamx data generate NAME or download NAME creates it; QAMX_DATA names another folder"
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
        remedy = "make or fetch one: qamx data generate NAME, qamx data download NAME"
        return Diagnosis("data", "warning", found, remedy)
    return Diagnosis("data", "ok", found)


def disk() -> Diagnosis:
    """Free disk space for runs and data."""
    data = default_directory()
    existing = next(folder for folder in (data, *data.parents) if os.path.exists(folder))
    folders = {"here": Path.cwd(), "data": existing}
    free = {name: shutil.disk_usage(path).free / GIGABYTE for name, path in folders.items()}
    found = ", ".join(f"{name}: {size:.0f} GB free" for name, size in free.items())
    least = min(free.values())
    if least < 1:
        return Diagnosis("disk", "problem", found, "a run's checkpoints need about 1 GB: make room")
    if least < 10:
        remedy = "make room for longer runs, or name --out elsewhere"
        return Diagnosis("disk", "warning", found, remedy)
    return Diagnosis("disk", "ok", found)


def wandb() -> Diagnosis:
    """Weights & Biases, which is optional."""
    if find_spec("wandb") is None:
        return Diagnosis("wandb", "warning", "not installed", "pip install wandb, if you want it")
    number = package_version("wandb") or "installed"
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    if not os.environ.get("WANDB_API_KEY") and not _has_login(host):
        offline = "no login: logs offline (wandb login changes that)"
        return Diagnosis("wandb", "ok", f"{number}, {offline}")
    try:
        socket.create_connection((host, 443), NETWORK_SECONDS).close()
    except OSError as error:
        remedy = "--wandb offline keeps the logs, wandb sync sends them later"
        return Diagnosis("wandb", "warning", f"{number}, {host}: {error}", remedy)
    return Diagnosis("wandb", "ok", f"{number}, logged in, {host} answers")


def files() -> Diagnosis:
    """The limit of open files."""
    if find_spec("resource") is None:
        return Diagnosis("open files", "ok", "no limit known")
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < FEW_FILES:
        return Diagnosis("open files", "warning", f"at most {limit}", f"ulimit -n {4 * FEW_FILES}")
    return Diagnosis("open files", "ok", f"at most {limit:,}" if limit >= 0 else "no limit")


CHECKS = (device, environment, rendering, data, disk, wandb, files)
"""The checks in the order of the report; they run in parallel."""


def _has_login(host: str) -> bool:
    try:
        return netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False

"""What a run's numbers depend on besides its configuration: software, device and flags."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jax.extend import backend

import qamx
from qamx.backend import setting

PACKAGES = (
    "qamx",
    "jax",
    "jaxlib",
    "equinox",
    "diffrax",
    "lineax",
    "optax",
    "orbax-checkpoint",
    "ogbench",
    "gymnasium",
    "mujoco",
    "numpy",
)

FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "JAX_PLATFORMS",
    "JAX_PLATFORM_NAME",
    "JAX_ENABLE_X64",
    "JAX_DEBUG_NANS",
    "JAX_DISABLE_JIT",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_RANDOM_SEED_OFFSET",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "TF_CUDNN_DETERMINISTIC",
    "OMP_NUM_THREADS",
    "MUJOCO_GL",
)
"""The environment variables that are written down. No other is: some hold credentials."""

DRAWS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
)
"""Settings of JAX with which a run is another from its first number on."""

ROUNDING = (
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
    "jax_allow_f16_reductions",
    "jax_softmax_custom_jvp",
    "jax_use_direct_linearize",
    "jax_default_device",
)
"""Settings of JAX that change the last digits, as another machine does."""

ROUNDING_FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_CUDNN_DETERMINISTIC",
)
"""Variables that do."""


def surroundings() -> dict[str, Any]:
    """The present software, machine, device and flags, as JSON. Asks JAX for its devices."""
    devices = jax.devices()
    return {
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "commit": _commit(),
        "platform": {"system": platform.platform(), "processor": _processor()},
        "device": {
            "backend": jax.default_backend(),
            "kind": devices[0].device_kind,
            "count": len(devices),
            "driver": backend.get_backend().platform_version,
        },
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "jax": switches(),
    }


def switches() -> dict[str, Any]:
    """What JAX goes by in the end, whether a variable or code has set it."""
    return {name: setting(name) for name in (*DRAWS, *ROUNDING) if hasattr(jax.config, name)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The CPU's name: XLA compiles for what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str | None:
    """The git commit, with `+` if files of qamx differ from it; None outside a checkout."""
    root = Path(qamx.__file__).parents[1]
    if not (root / ".git").exists():  # else git would name a checkout around the installation
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "qamx")
    return f"{commit}+" if commit and changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

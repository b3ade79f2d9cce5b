"""Provenance of a run, in `passport.json`: configuration, data, seeds, software and device."""

import json
import logging
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qamx._utils.backend import REFUSED, setting
from qamx._utils.defaults import EVALUATION_STREAM, TRAINING_STREAM
from qamx._utils.files import atomic_write, cached_sha256, package_version
from qamx._utils.processes import output_of
from qamx.config import Experiment
from qamx.config.experiment import flat
from qamx.errors import UserError

LOGGER = logging.getLogger("qamx")

FILE_NAME = "passport.json"

_MEND = "restore the file, or remove it: the run's next start writes a new one"


def stamp(directory: Path, experiment: Experiment, files: Sequence[Path], continued: bool) -> None:
    """Write a new run's passport, or add a start to the passport of a run that is resumed.

    Configuration, data and seeds are written once; each start adds its time, software, device and
    flags, and the keys that it changes.

    **Arguments:** `files` are the data files that the run reads, `continued` is true if the run is
    resumed from the folder's state.

    **Raises:** `UserError` if a data file or a setting of JAX that numbers depend on has changed
    since the run began, or the passport cannot be read.
    """
    path, data = directory / FILE_NAME, _data(files)
    passport = read(directory) if continued and path.exists() else _new_passport(experiment, data)
    _check_data(passport["data"], data, directory)
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "changes": _changes(passport["config"], experiment),
        **environment_info(),
    }
    if passport["starts"]:
        _check_settings(passport["starts"][-1], start, directory)
    passport["starts"].append(start)
    atomic_write(path, json.dumps(passport, indent=2))


def read(directory: Path) -> dict[str, Any]:
    """Read the passport of a run.

    **Raises:** `UserError` if there is none, or it is damaged.
    """
    path = directory / FILE_NAME
    try:
        passport = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; name the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {_MEND}") from error
    if not isinstance(passport, dict) or not passport.keys() >= {"config", "data", "starts"}:
        raise UserError(f"{path}: not a run's passport; {_MEND}")
    return passport


def _new_passport(experiment: Experiment, data: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": experiment.run_name,
        "config": _as_json(experiment),
        "data": data,
        "seeds": {
            "run": experiment.seed,
            "generators": "jax.random.split(jax.random.key(run), 5): agent, updates, batches, "
            "acting, evaluation",
            "resets": "numpy.random.SeedSequence((run, stream, episode)).generate_state(1)",
            "streams": {"collection": TRAINING_STREAM, "evaluation": EVALUATION_STREAM},
        },
        "success": experiment.environment.success_rule,
        "starts": [],
    }


def _data(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        {"file": str(file), "bytes": file.stat().st_size, "sha256": checksum}
        for file, checksum in zip(files, cached_sha256(files), strict=True)
    ]


def _check_data(before: list[dict[str, Any]], now: list[dict[str, Any]], directory: Path) -> None:
    """Refuse data files whose contents have changed; their folder may change."""
    if len(before) != len(now):
        raise UserError(
            f"{directory} was begun with {len(before)} data files and finds {len(now)} now; "
            "restore the data set, or start a run in a new folder with --out"
        )
    for old, new in zip(before, now, strict=True):
        if old["sha256"] != new["sha256"]:
            raise UserError(
                f"{new['file']}: not the file that {directory} was begun with\n"
                f"  then: {old['bytes']:,} bytes, SHA-256 {old['sha256']}\n"
                f"  now:  {new['bytes']:,} bytes, SHA-256 {new['sha256']}\n"
                "restore the file, or start a run in a new folder with --out"
            )


def note_switches(directory: Path) -> None:
    """Warn of JAX's settings that have changed since a run's last start."""
    starts = read(directory)["starts"] if (directory / FILE_NAME).exists() else []
    for start in starts[-1:]:
        for line in _differing(start["jax"], switches(), (*DRAWS, *ROUNDING)):
            _note(directory, line)


def _check_settings(last: dict[str, Any], now: dict[str, Any], directory: Path) -> None:
    """Refuse a changed setting of JAX if random draws depend on it; warn if rounding does."""
    for line in _differing(last["jax"], now["jax"], DRAWS):
        name = line.partition(":")[0]
        back = "" if name.lower() in {switch.name for switch in REFUSED} else "set it as then, or "
        raise UserError(f"{line} in {directory}; {back}start a run in a new folder with --out")
    lines = _differing(last["jax"], now["jax"], ROUNDING)
    every = dict.fromkeys(ROUNDING_FLAGS)
    lines += _differing(every | last["flags"], every | now["flags"], ROUNDING_FLAGS)
    for line in lines:
        _note(directory, line)


def _differing(then: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> list[str]:
    """A line for each setting that both starts know and that differs."""
    return [
        f"{name.upper()}: found {now[name]!r}, and {then[name]!r} when the run was last started"
        for name in names
        if name in then and name in now and then[name] != now[name]
    ]


def _note(directory: Path, line: str) -> None:
    LOGGER.warning("warning: %s: numbers of %s may differ", line, directory)


def _changes(before: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The dotted keys whose values have changed since the run began."""
    then, now = flat(before), flat(_as_json(experiment))
    return {key: now.get(key) for key in then | now if then.get(key) != now.get(key)}


def _as_json(experiment: Experiment) -> dict[str, Any]:
    """The configuration as it is read back: with lists for tuples."""
    return json.loads(json.dumps(experiment.to_dict()))


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

DRAWS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
)
"""Settings of JAX that random draws, and so all numbers of a run, depend on."""

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
"""Settings of JAX that change the rounding of results, as another machine does."""

ROUNDING_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "TF_CUDNN_DETERMINISTIC")
"""Environment variables that change the rounding of results."""

FLAGS = (
    *ROUNDING_FLAGS,
    *(name.upper() for name in (*DRAWS, *ROUNDING)),
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "JAX_PLATFORMS",
    "JAX_PLATFORM_NAME",
    "JAX_DEBUG_NANS",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MUJOCO_GL",
)
"""Environment variables that are recorded. No others are: some hold credentials."""


def environment_info() -> dict[str, Any]:
    """The present software, machine, device and flags, as JSON. Initialises JAX's devices."""
    import jax
    from jax.extend import backend

    devices = jax.devices()
    return {
        "versions": {
            "python": platform.python_version(),
            **{p: package_version(p) for p in PACKAGES},
        },
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
    """JAX's settings in effect, whether a variable or code has set them."""
    import jax

    return {name: setting(name) for name in (*DRAWS, *ROUNDING) if hasattr(jax.config, name)}


def _processor() -> str:
    """The CPU's name; XLA compiles for its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str | None:
    """The git commit, with `+` if files of qamx differ from it; None outside a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # else git would name a checkout around the installation
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "qamx")
    return f"{commit}+" if commit and changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = output_of(["git", "-C", str(root), *arguments], 10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

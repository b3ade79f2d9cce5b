"""JAX's device, how its programs are compiled and kept, and its switches that would change a
run's numbers."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from qamx._utils.files import cache_directory
from qamx._utils.machine import usable_cores
from qamx.errors import UserError


class Switch(NamedTuple):
    """A setting of JAX that a run accepts with some values only."""

    name: str
    taken: tuple[Any, ...]
    remedy: str


REFUSED = (
    Switch("jax_enable_x64", (False,), "qamx computes in float32"),
    Switch(
        "jax_default_matmul_precision",
        (None, "default"),
        "compute.precision of the experiment says how exact matrix products are",
    ),
    Switch("jax_numpy_dtype_promotion", ("standard",), "qamx mixes types of numbers"),
    Switch("jax_numpy_rank_promotion", ("allow", "warn"), "qamx mixes ranks of arrays"),
    Switch("jax_no_execution", (False,), "nothing would be computed"),
    *(
        Switch(
            f"jax_transfer_guard{way}",
            (None, "allow", "log", "log_explicit"),
            "a run copies between host and device",
        )
        for way in ("", "_host_to_device", "_device_to_host", "_device_to_device")
    ),
)
"""The switches that would change or prevent a run."""


def check_jax() -> None:
    """Checks JAX's switches and device.

    **Raises:** `UserError` with the switch or variable to change.
    """
    import jax

    for switch in REFUSED:
        value = setting(switch.name)
        if value not in switch.taken and hasattr(jax.config, switch.name):
            raise UserError(_refusal(switch, value))
    check_device()


def setting(name: str) -> Any:
    """The value of a setting of JAX, however it was set, in JSON's types."""
    import jax

    value = getattr(jax.config, name, None)
    value = getattr(value, "value", value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def check_device() -> None:
    """Checks that JAX has the requested device, or any.

    **Raises:** `UserError` with the variable that requests another.
    """
    import jax

    platforms = setting("jax_platforms") or ""
    named = os.environ.get("JAX_PLATFORM_NAME", "")
    first = platforms.split(",")[0] or None
    requests = [("jax_platforms", platforms, first)] if platforms or not named else []
    for name, value, platform in (*requests, ("jax_platform_name", named, None)):
        try:
            jax.devices(platform)
        except Exception as error:  # JAX's plugins raise what they like, AssertionError among it
            raise UserError(_no_device(name, value, error)) from error


def use_device(text: str) -> None:
    """Makes JAX use one kind of device: `cpu`, `gpu`, or GPUs by number, as `gpu:1` or `gpu:0,2`.

    Call it before JAX's first computation. Numbers count what `CUDA_VISIBLE_DEVICES` shows; a
    device that the environment's variables ask for is overruled.

    **Raises:** `UserError` for another text, or GPUs that JAX does not find.
    """
    if not re.fullmatch(r"cpu|gpu(:\d+(,\d+)*)?", text):
        raise UserError(f'--device: found "{text}"; write cpu, gpu, or a GPU by number, e.g. gpu:1')
    import jax

    platform, _, numbers = text.partition(":")
    jax.config.update("jax_platforms", "cpu" if platform == "cpu" else "")
    for kind in ("cuda", "rocm"):
        jax.config.update(f"jax_{kind}_visible_devices", numbers or "all")
    if platform == "cpu":
        return  # its backend is not started yet: `reserve_devices` may come
    try:
        found, why = jax.default_backend(), ""
    except Exception as error:  # JAX's plugins raise what they like
        found, why = "no device", f" ({' '.join(str(error).split())})"
    if found != "gpu":
        raise UserError(
            f"--device {text}: JAX finds {found} only{why}; name a GPU that nvidia-smi lists and "
            'CUDA_VISIBLE_DEVICES shows, install JAX for it, e.g. pip install "jax[cuda12]", or '
            "leave --device out"
        )


def reserve_devices(seeds: int, wanted: int | None = None) -> None:
    """Makes a CPU several devices, on which seeds train side by side.

    Call it before JAX's first computation; later it has no effect. Without a number that is
    `wanted`, it is at least one a core, and each gets as many seeds as the others.
    """
    import jax

    cores = usable_cores()
    count = wanted or next(
        n for n in range(1, seeds + 1) if seeds % n == 0 and n >= min(cores, seeds)
    )
    if count > 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has its devices already
            jax.config.update("jax_num_cpu_devices", count)


def used_devices(seeds: int, wanted: int | None = None) -> int:
    """The number of devices that seeds are spread over, in equal parts.

    **Raises:** `UserError` if the number that is `wanted` cannot be had.
    """
    import jax

    available = jax.local_device_count()
    if wanted is None:
        return max(n for n in range(1, min(seeds, available) + 1) if seeds % n == 0)
    if wanted > available or seeds % wanted:
        raise UserError(
            f"compute.devices: found {wanted}, and there are {available} devices and {seeds} "
            'seeds, which are divided equally; write a number that fits, or "auto"'
        )
    return wanted


_target: ContextVar[str | None] = ContextVar("target", default=None)


def target() -> str:
    """The platform that programs are compiled for: JAX's backend, or that of `compiling_for`."""
    import jax

    return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Functions traced inside take the form for another platform than JAX's backend."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def compiler_options(once: bool = False) -> dict[str, int]:
    """XLA's options of a program; `once` is for one that takes longer to compile than to run.

    On a CPU, LLVM's highest level compiles 1.6 times as long as the one below it, and the
    programs are no faster (measured in docs/performance.md).
    """
    import jax

    if target() != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return {}
    return {"xla_backend_optimization_level": 0 if once else 2}


CACHE_BYTES = 2 * 2**30
"""The size to which the programs that are kept are cut back, the oldest first."""


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache, where other processes find them.

    Call it before the first computation. A folder that JAX has been given already stays
    (`JAX_COMPILATION_CACHE_DIR`); without one that can be written, nothing is kept.
    """
    import jax

    if setting("jax_compilation_cache_dir") is not None:
        return
    folder = cache_directory() / "programs" / _processor()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was first
            _cut_back(folder, CACHE_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _processor() -> str:
    """A name for processors with the same instructions: a program runs on those alone, and
    machines may share a home."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    machine = f"{os.uname().machine} {' '.join(sorted(features.split()))}"
    return hashlib.sha256(machine.encode()).hexdigest()[:12]


def _cut_back(folder: Path, limit: int) -> None:
    """Deletes the oldest files of a folder beyond a number of bytes."""
    status = {file: file.stat() for file in folder.iterdir()}
    size = 0
    for file in sorted(status, key=lambda file: status[file].st_mtime, reverse=True):
        size += status[file].st_size
        if size > limit:
            file.unlink(missing_ok=True)


def _refusal(switch: Switch, found: Any) -> str:
    text = f"found {found!r}, and {switch.remedy}"
    usual = switch.taken[0]
    if (variable := switch.name.upper()) in os.environ:
        return f"{variable}: {text}; unset it"
    if variable.startswith("JAX_TRANSFER_GUARD_") and "JAX_TRANSFER_GUARD" in os.environ:
        return f"JAX_TRANSFER_GUARD: {text}; unset it"
    return f'{switch.name}: {text}; write jax.config.update("{switch.name}", {usual!r})'


def _no_device(name: str, found: str, error: Exception) -> str:
    message = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0]
    why = f" ({message})" if message else ""
    where, remedy = name, f'write jax.config.update("{name}", "cpu"), or leave it out'
    if os.environ.get(name.upper(), "") == found:
        where, remedy = name.upper(), f"write {name.upper()}=cpu, or unset it"
    return (
        f'{where}: found "{found}", and JAX has no such device here{why}; {remedy}; an NVIDIA GPU '
        'takes its driver and pip install "jax[cuda12]" (or cuda13)'
    )

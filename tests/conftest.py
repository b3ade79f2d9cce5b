"""Configuration that all tests share."""

import gc
import importlib.util
import mmap
import os
import sys
from pathlib import Path

import pytest

FLAGS = {"xla_cpu_use_fusion_emitters": "false", "xla_cpu_parallel_codegen_split_count": "1"}
"""Flags of XLA with which it compiles in half the time."""

MAPS = 20_000
"""The memory maps of a process from which compiled programs are released: each program holds some
hundred of the 65,530 that Linux allows, and one too many is a segmentation fault."""


def pytest_configure(config: pytest.Config) -> None:
    """Sets in the environment, for the workers and for the processes that tests start, how JAX
    compiles: each program once between them (a cache that is kept between sessions), and without
    most optimisations, for compiling takes longer than running. A CPU is three devices, so that
    groups of seeds are spread over several."""
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "3")
    compiled = config.rootpath / ".pytest_cache" / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    known = [f"--{flag}={value}" for flag, value in FLAGS.items() if _xla_has(flag)]
    if known:  # an unknown flag ends the process
        os.environ.setdefault("XLA_FLAGS", " ".join(known))


def _xla_has(flag: str) -> bool:
    jaxlib = importlib.util.find_spec("jaxlib")
    assert jaxlib is not None
    for folder in jaxlib.submodule_search_locations or ():
        for path in Path(folder).glob("libjax_common.*"):
            with path.open("rb") as file:
                library = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                return library.find(flag.encode() + b"\0") >= 0
    return False


@pytest.fixture
def optimised():
    """Programs are compiled with all optimisations: long trainings."""
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def released_programs():
    """Compiled programs are released after a module, before they are too many."""
    yield
    maps = Path("/proc/self/maps")
    many = not maps.exists() or len(maps.read_bytes().splitlines()) > MAPS
    if many and (jax := sys.modules.get("jax")):
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def shared_trainers():
    """Runs of a module with equal plans have one trainer, so that what takes longer than training,
    tracing and compiling its programs, is done once."""
    import equinox as eqx
    import jax

    from qamx.training import loop

    make, made = loop.Trainer, {}

    def trainer(state, *parts):
        arrays, static = eqx.partition(state, eqx.is_array)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arrays))
        values, structure = jax.tree.flatten(static)
        key = (structure, *values, shapes, parts)
        if key not in made:
            made[key] = make(state, *parts)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Trainer", trainer)
        yield


@pytest.fixture(scope="session", autouse=True)
def printed_log():
    """The library's messages are printed, as the command prints them."""
    from qamx._utils.terminal import print_log

    print_log()

"""Configuration that all tests share."""

import gc
import importlib.util
import mmap
import os
import sys
from pathlib import Path

import pytest

EMITTERS = "xla_cpu_use_fusion_emitters"


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
    if _xla_has(EMITTERS):  # an unknown flag ends the process
        os.environ.setdefault("XLA_FLAGS", f"--{EMITTERS}=false")


def _xla_has(flag: str) -> bool:
    jaxlib = importlib.util.find_spec("jaxlib")
    assert jaxlib is not None
    for folder in jaxlib.submodule_search_locations or ():
        for path in Path(folder).glob("libjax_common.*"):
            with path.open("rb") as file:
                library = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                return library.find(flag.encode()) >= 0
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
    """A module's compiled programs are released after it: each holds some hundred of the 65,530
    memory maps that Linux allows a process, and one too many is a segmentation fault."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def printed_log():
    """The library's messages are printed, as the command prints them."""
    from qamx._utils.terminal import print_log

    print_log()

"""Configuration that all tests share."""

import gc
import os
import sys

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Sets JAX's compilation cache, kept between sessions, in the environment: the workers of a
    session and the processes that tests start compile a program once between them."""
    compiled = config.rootpath / ".pytest_cache" / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(scope="module")
def quick_compilation():
    """Programs are compiled without most optimisations, by child processes too: compiling them
    takes longer than running them."""
    import jax

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


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

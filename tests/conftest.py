"""Configuration that all tests share."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Sets JAX's compilation cache, kept between sessions, in the environment: the workers of a
    session and the processes that tests start compile a program once between them."""
    compiled = config.rootpath / ".pytest_cache" / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

"""JAX's device, and JAX's switches that would change a run's numbers."""

import os
from typing import Any, NamedTuple

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

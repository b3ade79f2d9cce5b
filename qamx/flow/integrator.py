"""Diffrax's solvers on the uniform grid of a flow, stepped in a scan.

`diffrax.diffeqsolve` gives the same numbers (the tests compare the two) and was up to 1.4 times
slower; `docs/benchmark_log.md` has the measurement.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._utils.backend import target
from qamx._utils.defaults import FLOW_STEPS

SOLVERS: dict[str, type[diffrax.AbstractSolver]] = {
    "euler": diffrax.Euler,
    "heun": diffrax.Heun,
    "midpoint": diffrax.Midpoint,
    "ralston": diffrax.Ralston,
    "bosh3": diffrax.Bosh3,
    "tsit5": diffrax.Tsit5,
    "dopri5": diffrax.Dopri5,
}
"""The solvers that an experiment file can name; user code may pass any fixed-step solver."""


class Integrator(eqx.Module):
    """Takes `steps` equal steps of a Diffrax solver over flow time [0, 1].

    **Arguments:**

    - `steps`: number of flow steps T; the step size is h = 1/T.
    - `solver`: any explicit Diffrax solver that works with fixed steps.

    **Raises:** `ValueError` if `steps` is not positive.
    """

    steps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver = eqx.field(static=True)

    def __init__(self, steps: int = FLOW_STEPS, solver: diffrax.AbstractSolver | None = None):
        if steps < 1:
            raise ValueError(f"an integrator takes at least one step; found steps={steps}")
        self.steps = steps
        self.solver = diffrax.Euler() if solver is None else solver

    @property
    def step_size(self) -> float:
        """h = 1/T."""
        return 1.0 / self.steps

    @property
    def times(self) -> Float[Array, " steps+1"]:
        """The grid 0, h, ..., 1."""
        return jnp.arange(self.steps + 1) / self.steps

    def end(
        self,
        terms: diffrax.AbstractTerm,
        times: Float[Array, " n"],
        y0: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        """The state at `times[-1]`, from `y0` at `times[0]`."""

        def step(y: Array, span: tuple[Array, Array]) -> tuple[Array, None]:
            return self._step(terms, *span, y), None

        y1, _ = scan_steps(step, y0, (times[:-1], times[1:]))
        return y1

    def path(
        self,
        terms: diffrax.AbstractTerm,
        times: Float[Array, " n"],
        y0: Float[Array, "*shape"],
    ) -> Float[Array, "n *shape"]:
        """The states at all `times`, from `y0` at `times[0]`; times may run backwards."""

        def step(y: Array, span: tuple[Array, Array]) -> tuple[Array, Array]:
            y = self._step(terms, *span, y)
            return y, y

        _, ys = scan_steps(step, y0, (times[:-1], times[1:]))
        return jnp.concatenate([y0[None], ys])

    def _step(self, terms: diffrax.AbstractTerm, t0: Array, t1: Array, y: Array) -> Array:
        # A new solver state at each step: a solver that would reuse the last stage of the step
        # before ("first same as last") must not, where a term jumps on the grid.
        state = self.solver.init(terms, t0, t1, y, None)
        y1, _, _, _, _ = self.solver.step(terms, t0, t1, y, None, state, made_jump=False)
        return y1


def scan_steps(step: Callable[[Any, Any], tuple[Any, Any]], start: Any, steps: Any) -> Any:
    """`jax.lax.scan` over the steps of a sampler, in the form that suits the platform.

    A GPU runs a program without loops as one CUDA graph, and waits between the steps of a loop; a
    CPU gains nothing from that form, and compiles longer.
    """
    return jax.lax.scan(step, start, steps, unroll=target() != "cpu")

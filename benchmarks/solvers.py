"""Stepping Diffrax's solvers by hand against `diffrax.diffeqsolve`, on QAM's SDE.

python benchmarks/solvers.py
"""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp

from qamx._utils.flops import elapsed
from qamx.flow import GridIncrements, Integrator, MemorylessSchedule, memoryless_terms
from qamx.nn import VelocityField

SIZES = {
    "small (2 x 64, batch 64)": ((64, 64), 64),
    "quickstart (2 x 128, batch 128)": ((128, 128), 128),
    "paper (4 x 512, batch 256)": ((512,) * 4, 256),
}


def compare(hidden: tuple[int, ...], batch: int) -> tuple[float, float]:
    """Milliseconds of ten steps by hand, and by `diffeqsolve`."""
    steps, dim, observation_size = 10, 25, 55
    integrator = Integrator(steps)
    h, times = integrator.step_size, integrator.times[:-1]
    velocity = VelocityField(observation_size, dim, hidden, key=jax.random.key(0))
    observation = jax.random.normal(jax.random.key(1), (batch, observation_size))
    start = jax.random.normal(jax.random.key(2), (batch, dim))
    z = jax.random.normal(jax.random.key(3), (steps - 1, batch, dim))

    def terms(observation, z):
        brownian = GridIncrements(jnp.sqrt(h) * z, h)
        return memoryless_terms(velocity, observation, MemorylessSchedule(h), brownian)

    @jax.jit
    def by_hand(observation, start, z):
        return integrator.path(terms(observation, z), times, start)

    @jax.jit
    def solved(observation, start, z):
        return diffrax.diffeqsolve(
            terms(observation, z),
            diffrax.Euler(),
            t0=times[0],
            t1=times[-1],
            dt0=None,
            y0=start,
            stepsize_controller=diffrax.StepTo(ts=times),
            saveat=diffrax.SaveAt(steps=True, t0=True),
            max_steps=steps - 1,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        ).ys

    return best(lambda: by_hand(observation, start, z)), best(lambda: solved(observation, start, z))


def best(call: Callable[[], jax.Array | None]) -> float:
    """The milliseconds of the fastest of 50 calls, after one that compiles."""
    elapsed(call)
    return 1e3 * min(elapsed(call) for _ in range(50))


def main() -> None:
    """Prints both and their ratio for three sizes."""
    print(f"{'size':<34}{'by hand ms':>12}{'diffeqsolve ms':>16}{'ratio':>8}")
    for name, size in SIZES.items():
        ours, theirs = compare(*size)
        print(f"{name:<34}{ours:>12.3f}{theirs:>16.3f}{theirs / ours:>8.2f}")


if __name__ == "__main__":
    main()

"""The seeds of a run, and the reset seeds derived from them."""

from qamx.errors import UserError

SEEDS = 2**32
"""The number of seeds: JAX makes a key of a seed's low 32 bits, and greater ones would repeat
smaller ones."""
ALLOWED = f"an integer from 0 to {SEEDS - 1}"

TRAINING_STREAM, EVALUATION_STREAM = 0, 1


def check_seed(name: str, seed: int) -> None:
    """Refuses a seed that no run can have.

    **Raises:** `UserError` with the `name` of the key or option.
    """
    if not 0 <= seed < SEEDS:
        raise UserError(f"{name}: found {seed}; write {ALLOWED}")


def derived_seed(*parts: int) -> int:
    """A reset seed that is a function of the run's seed, a stream and an index."""
    import numpy as np

    return int(np.random.SeedSequence(parts).generate_state(1)[0])

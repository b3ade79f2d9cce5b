"""The seeds that a run can have."""

from qamx.errors import UserError

SEEDS = 2**32
"""So many: JAX makes a key of a seed's low 32 bits, and greater ones would repeat smaller ones."""
ALLOWED = f"an integer from 0 to {SEEDS - 1}"


def check_seed(place: str, seed: int) -> None:
    """Sees that a seed is one that a run can have.

    **Raises:** `UserError` that names `place`, where it was written.
    """
    if not 0 <= seed < SEEDS:
        raise UserError(f"{place}: found {seed}; write {ALLOWED}")

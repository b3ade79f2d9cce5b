"""Array aliases and the two records that every layer shares: a batch and its metrics."""

from typing import TypeAlias

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

Key: TypeAlias = PRNGKeyArray
Scalar: TypeAlias = Float[Array, ""]


class Batch(eqx.Module):
    """Action-chunk sequences, ready for the chunked n-step backup.

    Row b stands for the window that starts at some transition j of the data and is
    `horizon` steps long; flat actions have `dim = horizon * action_size` entries.
    """

    observations: Float[Array, "batch obs"]
    """s_j, the observation from which the chunk is played."""
    actions: Float[Array, "batch dim"]
    """a_j, ..., a_{j+H-1}, one after the other."""
    rewards: Float[Array, " batch"]
    """Discounted return inside the chunk, sum_i gamma^i r_{j+i}."""
    masks: Float[Array, " batch"]
    """0 where the task was solved inside the chunk (no bootstrap), else 1."""
    valid: Float[Array, " batch"]
    """0 where a trajectory ends strictly inside the chunk, else 1."""
    next_observations: Float[Array, "batch obs"]
    """The observation after the chunk's last step inside the trajectory."""


class Metrics(eqx.Module):
    """Base of the typed records that losses return; fields are scalars."""

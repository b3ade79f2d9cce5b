"""Whether actions explain what follows them, or what followed a step earlier or later."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from qamx.data.inspection.facts import Facts

SAMPLE_ROWS = 20_000
"""Rows that the regressions are fitted to."""

_RUN = 500  # consecutive rows taken together: neighbours are in memory together


@dataclass(frozen=True)
class Explained:
    r"""How much of the change s' − s a linear model of s and an action explains beyond s alone.

    The model is \(s'_t-s_t\approx Ws_t+Ba_{t+k}\); each number is the share of the variance that
    the actions add, summed over the entries of the observation.

    **Arguments:** `own` is for k = 0, `before` for k = −1, `after` for k = 1; `chance` is what
    actions without any relation would add, on average.
    """

    before: float
    own: float
    after: float
    chance: float


def explained(facts: Facts) -> Explained | None:
    """What actions explain in a sample of rows; None where there are too few."""
    rows = _rows(facts)
    observations, actions = facts.array("observations"), facts.array("actions")
    varied = np.flatnonzero(~facts.observations.constant)
    acting = np.flatnonzero(~facts.actions.constant)
    if len(rows) < 10 * (len(varied) + len(acting)) or not len(varied) or not len(acting):
        return None
    state = observations[np.ix_(rows, varied)].astype(np.float64)
    change = facts.array("next_observations")[np.ix_(rows, varied)] - state
    base, change = _standardised(state), _standardised(change)
    known = _share(base, change)
    gains = [
        _share(np.hstack([base, _standardised(actions[np.ix_(rows + k, acting)])]), change) - known
        for k in (-1, 0, 1)
    ]
    return Explained(*gains, chance=len(varied) * len(acting) / len(rows))


def _rows(facts: Facts) -> Int[np.ndarray, " rows"]:
    """Rows with a neighbour on each side in their episode, in evenly spaced runs."""
    size = len(facts.transitions)
    inner = np.ones(size, bool)
    inner[facts.starts] = inner[facts.last] = False
    spacing = max(_RUN, size * _RUN // SAMPLE_ROWS)
    taken = np.arange(size) % spacing < _RUN
    return np.flatnonzero(inner & taken)


def _standardised(array: np.ndarray) -> Float[np.ndarray, "rows entries"]:
    centred = array - array.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _share(given: np.ndarray, wanted: np.ndarray) -> float:
    """The explained share of each standardised column of `wanted`, summed."""
    gram = given.T @ given
    gram[np.diag_indices_from(gram)] += 1e-6 * len(given)
    projected = given.T @ wanted
    return float(np.sum(np.linalg.solve(gram, projected) * projected) / len(given))

"""Default values that settings and constructors share, and the seeds that a run can have."""

from qamx.errors import UserError

HIDDEN = (512, 512, 512, 512)
ENSEMBLE_SIZE = 10
TARGET_RATE = 0.005
LEARNING_RATE = 3e-4
FLOW_STEPS = 10
DIFFUSION_STEPS = 10
BEST_OF_N = 32
PROPOSALS = 4
"""Of PReFlow: proposals that an action is chosen from before it is refined."""
GUIDANCE_STRENGTH = 0.04
"""Of QGF: w, the weight of the critic's gradient in the velocity."""
TARGET_ENTROPY_SCALE = 0.5
POLICY_DELAY = 2
ACTOR_TARGET_RATE = 0.001
KL_SCALE = 3.0
"""Of TRQAM: c in 1/tau = c lambda."""
PESSIMISM = 0.0
ACTOR_LAYER_NORM, CRITIC_LAYER_NORM = False, True


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

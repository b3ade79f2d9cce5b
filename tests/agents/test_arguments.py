"""Arguments from Python are checked as those of experiment files are."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qamx
from qamx.agents import create_state, update
from qamx.normalisation import Normalisation
from qamx.schedules import Constant

OBS, ACT, HORIZON, ROWS = 3, 2, 2, 4
NETWORKS = qamx.Networks(OBS, ACT * HORIZON, (4,), (4,), ensemble_size=2)
PARTS = qamx.Parts(NETWORKS, qamx.Backup(0.99, HORIZON), qamx.Integrator(2))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def agent():
    return qamx.QAM(PARTS, inverse_temperature=3.0, key=KEY)


def test_a_number_is_a_constant_inverse_temperature(agent):
    assert agent.policy.inverse_temperature == Constant(3.0)


@pytest.mark.parametrize("tau", [None, "3.0", True])
def test_another_inverse_temperature_is_refused(tau):
    with pytest.raises(TypeError, match=r"inverse_temperature: found .*; write a number, e.g. 3.0"):
        PARTS.adjoint_matched_flow(tau, KEY)


@pytest.mark.parametrize("found", [Constant(3.0), None, float("nan"), True])
def test_a_weight_is_a_finite_number(found):
    with pytest.raises(ValueError, match=r"BackpropagatedFlow.inverse_temperature: found"):
        qamx.BAM(PARTS, inverse_temperature=found, key=KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"observation_size": -4},
        {"action_dim": 0},
        {"ensemble_size": 2.0},
        {"actor_hidden": ()},
        {"critic_hidden": (64, -1)},
        {"actor_hidden": 64},
    ],
)
def test_sizes_are_positive_integers(change):
    (name,) = change
    with pytest.raises(ValueError, match=rf"^{name}.*: found"):
        dataclasses.replace(NETWORKS, **change)


def test_a_chunk_is_a_whole_number_of_actions():
    backup = qamx.Backup(0.99, 5)
    with pytest.raises(ValueError, match="action_dim: found 4 with a horizon of 5; write horizon"):
        dataclasses.replace(PARTS, backup=backup)
    with pytest.raises(ValueError, match="target_rate: found 0"):
        dataclasses.replace(PARTS, target_rate=0.0)
    with pytest.raises(ValueError, match="target_period: found 0"):
        dataclasses.replace(PARTS, target_period=0)


BAD = {
    r"found shape \(3,\); give \(batch, 3\); for one, observation\[None\]": np.zeros(OBS),
    r"found shape \(4,\); give \(batch, 3\)$": np.zeros(OBS + 1),
    r"found shape \(1, 4\); give \(batch, 3\)": np.zeros((1, OBS + 1)),
    "row 1 has entries that are not finite": np.array([[0.0] * OBS, [0.0, np.nan, 0.0]]),
}


@pytest.mark.parametrize("message", BAD)
def test_observations_are_checked(agent, message):
    policy = qamx.TrainedPolicy(agent, Normalisation(), HORIZON)
    for act in (agent.act, agent.act_in_evaluation, agent.act_as_behaviour, policy.act):
        with pytest.raises(ValueError, match=message):
            act(BAD[message], KEY)


def test_shapes_are_checked_in_compiled_functions(agent):
    row = jax.ShapeDtypeStruct((OBS,), jnp.float32)
    with pytest.raises(ValueError, match=r"found shape \(3,\); give \(batch, 3\)"):
        jax.eval_shape(agent.act, row, KEY)


def batch(**changes):
    arrays = {
        "observations": jnp.zeros((ROWS, OBS)),
        "actions": jnp.zeros((ROWS, ACT * HORIZON)),
        "rewards": jnp.zeros(ROWS),
        "masks": jnp.ones(ROWS),
        "valid": jnp.ones(ROWS),
        "next_observations": jnp.zeros((ROWS, OBS)),
    }
    return qamx.Batch(**(arrays | changes))


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("rewards", (ROWS, 1), "(4,)"),
        ("masks", (ROWS - 1,), "(4,)"),
        ("actions", (ROWS, HORIZON, ACT), "(4, 4)"),
        ("actions", (ROWS, ACT), "(4, 4)"),
        ("observations", (OBS,), "(batch, 3)"),
        ("next_observations", (ROWS, OBS + 1), "(4, 3)"),
    ],
)
def test_a_batch_of_other_shapes_is_refused(agent, name, shape, wanted):
    optimiser = qamx.adam()
    state = create_state(agent, optimiser, KEY)
    message = f"^{re.escape(f'batch.{name}: found shape {shape}; give {wanted}')}$"
    with pytest.raises(ValueError, match=message):
        update(state, batch(**{name: jnp.zeros(shape)}), optimiser)

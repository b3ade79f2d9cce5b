"""The units that a policy learns in, and those of its data and environment."""

from dataclasses import fields

import numpy as np
import pytest
from corner import Corner

from qamx.data.source import mean_std, min_max, normalise
from qamx.data.transitions import Transitions
from qamx.errors import UserError
from qamx.normalisation import Normalisation, NormalisedEnvironment

SCALING = Normalisation(
    observation_mean=np.array([1.0, -2.0], np.float32),
    observation_deviation=np.array([0.5, 4.0], np.float32),
    action_low=np.array([-2.0, 1.0], np.float32),
    action_high=np.array([2.0, 4.0], np.float32),
    reward_scale=0.5,
    reward_shift=1.0,
)


def test_units_by_hand():
    np.testing.assert_array_equal(SCALING.observations(np.array([[2.0, 2.0]])), [[2, 1]])
    np.testing.assert_array_equal(
        SCALING.actions(np.array([[-2.0, 4.0], [0, 2.5]])), [[-1, 1], [0, 0]]
    )
    np.testing.assert_array_equal(SCALING.rewards(np.array([-2.0, 0.0])), [0, 1])
    assert not SCALING.is_identity
    assert Normalisation().is_identity


def test_actions_come_back_inside_the_bounds():
    units = np.linspace(-1, 1, 7)[:, None].repeat(2, axis=1)
    np.testing.assert_allclose(SCALING.actions(SCALING.to_environment(units)), units, atol=1e-6)
    beyond = SCALING.to_environment(np.array([-1.00001, 1.00001], np.float32))
    np.testing.assert_array_equal(beyond, [-2, 4])


def test_an_action_that_never_varies_stays_what_it_is():
    still = Normalisation(
        action_low=np.array([3.0], np.float32), action_high=np.array([3.0], np.float32)
    )
    np.testing.assert_array_equal(still.actions(np.array([[3.0]])), [[0]])
    np.testing.assert_array_equal(still.to_environment(np.array([0.7], np.float32)), [3])


def test_the_identity_changes_nothing():
    rows = np.random.default_rng(0).normal(size=(3, 2))
    for change in (
        Normalisation().observations,
        Normalisation().actions,
        Normalisation().to_environment,
    ):
        assert change(rows) is rows
    np.testing.assert_array_equal(
        Normalisation().rewards(rows[:, 0]), rows[:, 0].astype(np.float32)
    )


def test_mean_and_deviation_of_the_data_with_a_constant_entry():
    rows = np.array([[0.0, 5.0], [2.0, 5.0]], np.float32)
    mean, deviation, findings = mean_std("data", rows)
    np.testing.assert_array_equal(mean, [1, 5])
    np.testing.assert_array_equal(deviation, [1, 1])
    low, high, found = min_max("data", rows)
    assert findings == found == ()
    np.testing.assert_array_equal([low, high], [[0, 5], [2, 5]])
    rows[1, 0] = np.nan
    for find in (mean_std, min_max):
        with pytest.raises(
            UserError, match=r"data: .*found nan in row 1 \(1 row in all\); remove the episode"
        ):
            find("data", rows)


NORMAL = np.random.default_rng(0).normal(size=2_000)
JITTER = "observations: nearly constant in 1 of 2 dimensions (1); dimension 1 has a std of"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("entry", "deviation", "found"),
    [
        (0.5 + 2e-6 * NORMAL, 1.0, f"{JITTER} 2e-06 around 0.5"),
        (-300 + 1e-3 * NORMAL, 1.0, f"{JITTER} 0.001 around -300"),
        (1e6 + 0.1 * NORMAL, 1.0, f"{JITTER} 0.1 around 1e+06"),
        (1e6 + 50 * NORMAL, 50.0, f"{JITTER} 50 around 1e+06"),  # 1 would not divide by as much
        (np.full(2_000, 0.1), 1.0, ""),
        (np.zeros(2_000), 1.0, ""),
        (1e-9 * NORMAL, 1.0, ""),  # what rounding leaves
        (1e-6 + 1e-6 * NORMAL, 1e-6, ""),
        (1e-5 * NORMAL, 1e-5, ""),
        (1e-3 + 1e-6 * NORMAL, 1e-6, ""),
        (300 + 0.1 * NORMAL, 0.1, ""),
        (1e4 + 5 * NORMAL, 5.0, ""),
        (1e4 * (np.arange(2_000) == 7), 1e4 / 2_000**0.5, ""),  # one outlier, 45 deviations away
    ],
)
def test_an_entry_that_hardly_varies_is_centred_and_not_enlarged(entry, deviation, found, dtype):
    rows = np.stack([NORMAL, entry], axis=1).astype(dtype)
    mean, deviations, findings = mean_std("data", rows)
    np.testing.assert_allclose(deviations, [1, deviation], rtol=0.05)
    np.testing.assert_allclose(mean[1], entry.mean(), rtol=1e-6, atol=1e-8)
    assert [finding.found for finding in findings] == [found] * bool(found)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (0.5 + 2e-6 * np.tanh(NORMAL), True),
        (1e-9 * NORMAL, True),
        (np.full(2_000, 0.1), False),
        (1e-3 * NORMAL, False),
    ],
)
def test_a_range_of_actions_that_is_hardly_one_is_found(entry, found):
    rows = np.stack([NORMAL, entry], axis=1)
    low, high, findings = min_max("data", rows)
    np.testing.assert_array_equal([low[1], high[1]], [entry.min(), entry.max()])
    assert [finding.id for finding in findings] == ["actions-nearly-constant"] * found


def test_transitions_in_a_policy_s_units():
    rows = np.array([[2.0, 2.0]], np.float32)
    one = np.ones(1, np.float32)
    found = normalise(Transitions(rows, rows, -2 * one, one, one, rows + 1), SCALING)
    np.testing.assert_array_equal(found.observations, [[2, 1]])
    np.testing.assert_array_equal(found.next_observations, [[4, 1.25]])
    np.testing.assert_allclose(found.actions, [[1, -1 / 3]], rtol=1e-6)
    np.testing.assert_array_equal(found.rewards, [0])
    assert (found.masks[0], found.ends[0]) == (1, 1)


def test_an_environment_in_a_policy_s_units():
    env, inside = NormalisedEnvironment(Corner, SCALING), Corner()
    assert (env.observation_size, env.action_size) == (2, 2)
    np.testing.assert_array_equal(env.reset(3), SCALING.observations(inside.reset(3)))
    step, raw = env.step(np.array([0.5, -1.0])), inside.step(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(step.observation, SCALING.observations(raw.observation))
    # Rewards are the environment's own: an evaluation reports them.
    assert (step.reward, step.done) == (raw.reward, raw.done)


def test_a_run_s_units_are_kept_with_it(tmp_path):
    Normalisation().save(tmp_path)
    assert not [*tmp_path.iterdir()]
    assert Normalisation.load(tmp_path).is_identity
    SCALING.save(tmp_path)
    kept = Normalisation.load(tmp_path)
    for field in fields(Normalisation):
        np.testing.assert_array_equal(getattr(kept, field.name), getattr(SCALING, field.name))
    (tmp_path / "scaling.json").write_text('{"observation_mean": [')
    with pytest.raises(UserError, match=r"scaling.json: cannot be read .*restore it"):
        Normalisation.load(tmp_path)

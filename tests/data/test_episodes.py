"""Episodes read as transitions, and dictionary observations as vectors."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.inspection.episode_checks import check_finite
from qamx.envs.spaces import concat, named_leaves, select_keys
from qamx.errors import UserError

LAST = np.array([0, 0, 1], bool)


def episode(rows: int = 4, **changes) -> StoredEpisode:
    """Three steps; observations 0 to 3, the last of which follows the last action."""
    parts = {
        "observations": np.arange(rows, dtype=np.float64)[:, None],
        "actions": np.array([[0.1], [0.2], [0.3]]),
        "rewards": np.array([1.0, 2.0, 3.0]),
        "terminations": LAST,
    }
    return StoredEpisode(**(parts | changes))


def read(*episodes: StoredEpisode, **reading):
    return EpisodeReader(**reading).transitions("data", episodes)


def test_episodes_follow_each_other():
    found = read(episode(), episode(terminations=~LAST & False))
    np.testing.assert_array_equal(found.observations[:, 0], [0, 1, 2] * 2)
    np.testing.assert_array_equal(found.next_observations[:, 0], [1, 2, 3] * 2)
    np.testing.assert_allclose(found.actions[:, 0], [0.1, 0.2, 0.3] * 2)
    np.testing.assert_array_equal(found.rewards, [1, 2, 3] * 2)
    np.testing.assert_array_equal(found.masks, [1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.ends, [0, 0, 1] * 2)


@pytest.mark.parametrize(("terminated", "steps"), [(True, 3), (False, 2)])
def test_a_last_step_without_a_next_observation_is_kept_only_if_it_terminated(terminated, steps):
    found = read(episode(3, terminations=LAST & terminated))
    assert len(found) == steps
    np.testing.assert_array_equal(found.ends, [0, 0, 1][3 - steps :])
    np.testing.assert_array_equal(found.next_observations[:2, 0], [1, 2])
    assert found.masks[-1] == (not terminated)


def test_steps_that_give_no_transition_are_told(capsys):
    read(episode(3, terminations=LAST & False), episode())
    told = "data: 6 steps give 5 transitions: no observation follows the last step of 1 episode\n"
    assert capsys.readouterr().err == f"note: {told}"
    read(episode())
    assert capsys.readouterr().err == ""


def test_next_observations_that_are_stored_are_used():
    following = np.array([[1.5], [2.5], [3.5]])
    found = read(episode(3, next_observations=following, terminations=LAST & False))
    np.testing.assert_array_equal(found.next_observations, following)
    assert len(found) == 3


def test_episodes_without_a_step_are_left_out(capsys):
    empty = episode(1, actions=np.zeros((0, 1)), rewards=np.zeros(0), terminations=np.zeros(0))
    alone = episode(1, actions=np.ones((1, 1)), rewards=np.ones(1), terminations=np.zeros(1))
    for _ in range(2):  # a shard is read many times
        assert len(read(empty, episode(), alone)) == 3
    note = "note: data: leaves out what holds no whole step: episode 0, episode 2\n"
    assert capsys.readouterr().err == note
    with pytest.raises(UserError, match="data: no episode with a step"):
        read(empty, alone)


def test_sparse_rewards_come_from_success():
    solved = episode(success=np.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(read(solved, sparse=True).rewards, [-1, 0, -1])
    demonstration = episode(rewards=None)
    found = read(demonstration, sparse=True, solved_at_last=True)
    np.testing.assert_array_equal(found.rewards, [-1, -1, 0])
    with pytest.raises(UserError, match=r"episode 1: successes: missing, and environment.reward"):
        read(solved, episode(), sparse=True)


def test_the_solved_step_of_a_demonstration_is_not_left_out():
    demonstration = episode(3, rewards=None, terminations=None)
    found = read(demonstration, sparse=True, solved_at_last=True, terminal="success")
    np.testing.assert_array_equal(found.rewards, [-1, -1, 0])
    np.testing.assert_array_equal(found.masks, [1, 1, 0])
    with pytest.raises(UserError, match=r'which would be left out.*data.terminal = "success"'):
        read(demonstration, sparse=True, solved_at_last=True, terminal="never")
    followed = episode(4, rewards=None, terminations=None)
    found = read(followed, sparse=True, solved_at_last=True, terminal="never")
    np.testing.assert_array_equal(found.rewards, [-1, -1, 0])


def test_what_ends_the_bootstrap():
    solved = episode(success=np.array([False, True, False]))
    np.testing.assert_array_equal(read(solved).masks, [1, 1, 0])
    np.testing.assert_array_equal(read(solved, terminal="success").masks, [1, 0, 1])
    np.testing.assert_array_equal(read(solved, terminal="never").masks, [1, 1, 1])
    with pytest.raises(UserError, match=r"successes: missing, and data.terminal asks"):
        read(episode(), terminal="success")
    with pytest.raises(UserError, match=r'terminations: missing; write data.terminal = "success"'):
        read(episode(terminations=None))
    assert len(read(episode(terminations=None), terminal="never")) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, r'rewards: missing; write environment.reward = "sparse"'),
        ({"rewards": np.ones(2)}, "rewards: 2 rows, and there are 3 actions"),
        (
            {"rewards": np.ones((3, 2))},
            r"rewards: found float64 of shape \(3, 2\); write one number a row",
        ),
        ({"terminations": LAST[:1]}, "terminations: 1 rows"),
        ({"observations": np.zeros((5, 1))}, "observations: 5 rows"),
        ({"next_observations": np.zeros((2, 1))}, "next observations: 2 rows"),
        ({"observations": np.array(["a"] * 4)}, "observations: found <U1; qamx learns from arr"),
        ({"observations": (np.zeros(4), np.zeros(4))}, "observations: found tuple"),
        (
            {"observations": np.zeros((4, 8, 8), np.uint8)},
            r"observations: images of shape \(8, 8\)",
        ),
        ({"observations": {}}, "observations: there are none; add them, or drop the episode"),
        ({"observations": {"a": np.float32(1)}}, "observations a: found a single float32"),
        ({"actions": np.array([["a"]] * 3)}, r"actions: found <U1 of shape \(3, 1\)"),
        ({"rewards": np.array(["a"] * 3)}, r"rewards: found <U1 of shape \(3,\)"),
        ({"rewards": np.array(1.0)}, r"rewards: found float64 of shape \(\)"),
        ({"success": np.array([0, np.nan, 1])}, "successes: not finite in row 1; write 1 for yes"),
        ({"success": np.array([[0], [1], [np.inf]])}, "successes: not finite in row 2"),
        ({"terminations": np.array([np.nan, 0, 1])}, "terminations: not finite in row 0; write 1"),
        ({"name": "demo_7", "rewards": None}, "rewards: missing"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, message):
    with pytest.raises(UserError, match=f"data, {changes.get('name', 'episode 1')}: {message}"):
        read(episode(), episode(**changes))


def test_numbers_beyond_float32_are_left_to_the_checks_of_data():
    huge = np.array([[0.0], [1e300], [0.0], [0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(episode(observations=huge, actions=-huge[:3], rewards=huge[:3, 0]))
    arrays = {finding.id for finding in check_finite(found)}
    assert {"observations-not-finite", "actions-not-finite", "rewards-not-finite"} <= arrays


def test_episodes_of_different_sizes_are_refused():
    with pytest.raises(UserError, match=r"different sizes: \(1, 1\), \(2, 1\)"):
        read(episode(), episode(observations=np.zeros((4, 2))))


IMAGES = [
    ((84, 84, 3), np.float32),
    ((3, 84, 84), np.float64),
    ((84, 84, 1), np.float16),
    ((8, 8, 4), np.int32),
    ((4, 84, 84, 3), np.uint16),  # a stack of four
    ((16, 16), np.uint8),
]
VECTORS = [((3, 3), np.float32), ((2, 4, 7), np.float64), ((84,), np.uint8), ((10, 20), np.float32)]


@pytest.mark.parametrize(("shape", "dtype"), IMAGES + VECTORS)
@pytest.mark.parametrize("place", ["observations", "next_observations"])
def test_images_are_told_by_their_shape_whatever_their_type(shape, dtype, place):
    pixels = np.zeros((3, *shape), dtype)
    other = "next_observations" if place == "observations" else "observations"
    changes: dict[str, Any] = {place: {"a": pixels}, other: {"a": np.zeros(3)}}
    mine = episode(**changes)
    if (shape, dtype) in IMAGES:
        dimensions = ", ".join(map(str, shape))
        with pytest.raises(UserError, match=rf"observations a: images of shape \({dimensions}"):
            read(mine)
    elif place == "observations":
        with_vectors = episode(observations={"a": pixels}, next_observations={"a": pixels})
        assert read(with_vectors).observations.shape == (3, np.prod(shape))


SPACE = Dict(
    {
        "velocity": Box(-1, 1, (2,)),
        "achieved": Dict({"z": Box(-1, 1, (1,)), "a": Box(-1, 1, (2, 2))}),
        "Upper": Box(-1, 1, (1,)),
    }
)


def test_dictionaries_are_flattened_as_gymnasium_flattens_its_spaces():
    SPACE.seed(0)
    samples = [SPACE.sample() for _ in range(4)]
    leaves = named_leaves(samples[0])
    assert list(leaves) == ["Upper", "achieved.a", "achieved.z", "velocity"]
    vector = concat(leaves, list(leaves), 1)[0]
    np.testing.assert_array_equal(vector, gymnasium.spaces.flatten(SPACE, samples[0]))
    achieved = [sample["achieved"] for sample in samples]
    rows = {
        "velocity": np.stack([sample["velocity"] for sample in samples]),
        "achieved": {name: np.stack([a[name] for a in achieved]) for name in ("z", "a")},
        "Upper": np.stack([sample["Upper"] for sample in samples]),
    }
    found = read(episode(observations=rows))
    wanted = [gymnasium.spaces.flatten(SPACE, sample) for sample in samples]
    np.testing.assert_array_equal(found.observations, wanted[:3])
    np.testing.assert_array_equal(found.next_observations, wanted[1:])


def test_entries_are_taken_in_the_order_that_is_asked_for():
    rows = {"b": np.arange(4.0), "a": {"x": np.arange(4.0) + 10}, "c": np.zeros(4)}
    mine = episode(observations=rows)
    found = read(mine, observation_keys=("b", "a.x"), environment_keys=("a.x",))
    np.testing.assert_array_equal(found.observations[1], [1, 11])
    np.testing.assert_array_equal(read(mine, environment_keys=("a.x",)).observations[1], [11])
    with pytest.raises(UserError, match=r"data.observation_keys: found 'a.y'.*there are: a.x, b"):
        read(mine, observation_keys=("a.y",))
    with pytest.raises(UserError, match="by default the environment's: found 'state'"):
        read(mine, environment_keys=("state",))
    with pytest.raises(
        UserError, match=r"found 'b', and the observations are vectors without names"
    ):
        read(episode(), observation_keys=("b",))


def test_images_beside_the_chosen_entries_are_not_read():
    rows = {"state": np.arange(4.0), "camera": np.zeros((4, 8, 8, 3), np.uint8)}
    found = read(episode(observations=rows), observation_keys=("state",))
    assert found.observations.shape == (3, 1)


def test_names_of_leaves_that_are_not_there_are_suggested():
    with pytest.raises(UserError, match=r'did you mean "position"\?'):
        select_keys({"position": 0, "velocity": 0}, ["positon"], "keys")

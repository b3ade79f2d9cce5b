"""Windows over transitions and the replay buffer, against a plain reference."""

import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx.data.replay import BalancedSampling, Replay, UniformSampling, on_device
from qamx.data.shards import TransitionCache
from qamx.data.transitions import Transitions, windows

GAMMA, HORIZON = 0.9, 4


def transitions(lengths, seed=0, solved=()):
    """Trajectories of the given lengths; observation j is the number j."""
    size, rng = sum(lengths), np.random.default_rng(seed)
    ends = np.zeros(size, np.float32)
    ends[np.cumsum(lengths) - 1] = 1
    masks = np.ones(size, np.float32)
    masks[list(solved)] = 0
    column = np.arange(size, dtype=np.float32)[:, None]
    return Transitions(
        column,
        rng.uniform(-1, 1, (size, 2)).astype(np.float32),
        rng.normal(size=size).astype(np.float32),
        masks,
        ends,
        column + 0.5,
    )


def reference(data, start):
    """One window, step by step, as the specification words it."""
    total, mask, valid, last = 0.0, 1.0, 1.0, start
    for i in range(HORIZON):
        j = start + i
        total += GAMMA**i * data.rewards[j]
        mask, last = min(mask, data.masks[j]), j
        if data.ends[j]:
            valid = 1.0 if i == HORIZON - 1 else 0.0
            break
    return total, mask, valid, data.next_observations[last]


def test_windows_are_what_the_specification_says():
    data = transitions([5, 2, 7, 1, 6], solved=(3, 8, 15))
    starts = np.arange(len(data) - HORIZON + 1)
    batch = windows(jax.tree.map(jnp.asarray, data), jnp.asarray(starts), HORIZON, GAMMA)
    for start in starts:
        total, mask, valid, after = reference(data, start)
        assert float(batch.rewards[start]) == pytest.approx(total, rel=1e-5, abs=1e-6)
        assert float(batch.masks[start]) == mask
        assert float(batch.valid[start]) == valid
        np.testing.assert_array_equal(batch.next_observations[start], after)
        np.testing.assert_array_equal(batch.observations[start], data.observations[start])
        chunk = data.actions[start : start + HORIZON].reshape(-1)
        np.testing.assert_array_equal(batch.actions[start], chunk)


def test_starts_are_uniform_over_the_filled_rows():
    replay = Replay.create(transitions([12]), 18)
    batch = UniformSampling(18_000, HORIZON, GAMMA).draw(replay, jax.random.key(0))
    counts = np.bincount(np.asarray(batch.observations[:, 0], int), minlength=9)
    assert len(counts) == 9  # Starts 0 to 12 - 4.
    # Each count is binomial with mean 2,000 and deviation 42.
    assert np.abs(counts - 2000).max() < 5 * 42


def test_balanced_batches_are_half_old_and_half_new():
    sampling, key = BalancedSampling(1000, HORIZON, GAMMA), jax.random.key(0)

    def replay(new):
        return Replay.create(transitions([20]), 10).append(new)

    # Not a whole window is new yet: all of the batch is old, uniform over its 17 starts.
    early = sampling.draw(replay(transitions([3], seed=1)), key)
    counts = np.bincount(np.asarray(early.observations[:, 0], int), minlength=17)
    assert len(counts) == 17
    assert counts.min() > 30
    late = sampling.draw(replay(shifted(transitions([6], seed=1), 100.0)), key)
    first = np.asarray(late.observations[:, 0], int)
    assert (first >= 100).sum() == 500
    assert set(first[first >= 100]) == {100, 101, 102}
    # No window reaches from the old rows into the new ones.
    assert first[first < 100].max() == 16


def shifted(data, by):
    return eqx.tree_at(lambda rows: rows.observations, data, data.observations + by)


def test_a_window_of_one_step():
    data = jax.tree.map(jnp.asarray, transitions([1, 2]))
    batch = windows(data, jnp.arange(3), 1, GAMMA)
    np.testing.assert_array_equal(batch.valid, jnp.ones(3))
    np.testing.assert_allclose(batch.rewards, data.rewards)


def test_replay_appends_behind_the_offline_rows():
    offline, new = transitions([4, 3]), transitions([2], seed=1)
    replay = Replay.create(offline, 5).append(new)
    assert int(replay.size) == 9
    np.testing.assert_array_equal(replay.offline.rewards, offline.rewards)
    np.testing.assert_array_equal(replay.online.rewards[:2], new.rewards)
    np.testing.assert_array_equal(replay.online_rows(1, 2).actions, new.actions[1:])


def test_a_shard_takes_the_place_of_the_one_before():
    other, new = transitions([7], seed=2), transitions([2], seed=1)
    replay = Replay.create(transitions([4, 3]), 5).append(new).replace_offline(on_device(other))
    np.testing.assert_array_equal(replay.offline.rewards, other.rewards)
    np.testing.assert_array_equal(replay.online.rewards[:2], new.rewards)
    assert int(replay.size) == 9


# --- the cache of a shard ---


@pytest.fixture
def kept(tmp_path):
    """Transitions whose observations follow each other, and the file that they are taken for."""
    data, file = transitions([5, 1, 3], solved=(8,)), tmp_path / "set-000.npz"
    file.write_bytes(b"some content")
    rows = np.arange(12, dtype=np.float32)  # An episode has one more than it has transitions.
    first = np.array([0, 1, 2, 3, 4, 6, 8, 9, 10])
    observed = np.stack([rows, -rows], axis=1)
    data = eqx.tree_at(
        lambda d: (d.observations, d.next_observations),
        data,
        (observed[first], observed[first + 1]),
    )
    return data, file


def same(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_a_cache_gives_back_what_it_was_given(kept):
    data, file = kept
    cache = TransitionCache(file)
    assert cache.read("1-default") is None
    cache.write("1-default", data)
    found = TransitionCache(file).read("1-default")
    assert same(found, data)
    # Another task shares all but its rewards and masks.
    other = eqx.tree_at(lambda d: (d.rewards, d.masks), data, (-data.rewards, 1 - data.masks))
    assert cache.read("2-default") is None
    cache.write("2-default", other)
    assert same(cache.read("2-default"), other)
    assert same(cache.read("1-default"), data)
    assert len(list((file.parent / ".cache/set-000").glob("observed*"))) == 1


def test_a_cache_of_another_file_or_a_damaged_one_is_not_used(kept):
    data, file = kept
    cache = TransitionCache(file)
    cache.write("1-default", data)
    file.write_bytes(b"another content")
    assert cache.read("1-default") is None
    cache.write("2-default", data)
    assert cache.read("1-default") is None  # of the file before
    assert same(cache.read("2-default"), data)
    array = file.parent / ".cache/set-000/observed.npy"
    array.write_bytes(array.read_bytes()[:-8])
    assert cache.read("2-default") is None
    cache.write("2-default", data)  # what is damaged is made anew
    assert same(cache.read("2-default"), data)


def test_a_cache_that_cannot_be_written_is_said_once_and_missed(kept, capsys, monkeypatch):
    data, file = kept
    (file.parent / ".cache").write_text("in the way")
    for _ in range(2):
        TransitionCache(file).write("1-default", data)
    assert capsys.readouterr().err.count("not kept") == 1
    (file.parent / ".cache").unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 10))
    TransitionCache(file).write("1-default", data)
    assert "the disk is nearly full" in capsys.readouterr().err
    assert TransitionCache(file).read("1-default") is None

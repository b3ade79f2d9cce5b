"""The first episodes on record: what is generated today is held against them."""

import numpy as np
import pytest
from qamx.data.ogbench.reference_episodes import (
    Likeness,
    compare,
    draw_standard,
    read_first_episode,
    record,
    surroundings,
)

from qamx.data.ogbench.catalogue import dataset_names, lookup
from qamx.data.ogbench.download import download
from qamx.data.ogbench.generate import generate
from qamx.errors import UserError

NAME = "pointmaze-medium-navigate"


@pytest.fixture(scope="module")
def episode():
    return draw_standard(NAME)


def promised():
    """What the record promises here: the bits only where software and processor are its own."""
    there, here = dict(record()["made_with"]), surroundings()
    if there == here:
        return {Likeness.SAME}
    for part in ("machine", "processor"):
        del there[part], here[part]
    rounding = {Likeness.SAME, Likeness.CLOSE}
    return rounding if there == here else rounding | {Likeness.ALIKE}


def test_a_set_is_generated_as_it_was_when_it_was_recorded(episode):
    assert compare(NAME, episode) in promised()


def test_the_record_is_of_sets_that_can_be_generated():
    episodes = record()["episodes"]
    assert set(episodes) <= set(dataset_names())
    assert len({known["sha256"] for known in episodes.values()}) == len(episodes) == 28
    for name, known in episodes.items():
        shapes = {array["shape"][0] for array in known["arrays"].values()}
        assert shapes == {lookup(name).steps}


def changed(episode, **arrays):
    return episode | arrays


def test_other_episodes_are_told_apart(episode):
    path = episode["observations"]
    rounding = changed(episode, observations=path + np.float32(1e-5))
    assert compare(NAME, rounding) is Likeness.CLOSE
    drifting = path + np.linspace(0, 0.3 * path.std(), len(path), dtype=np.float32)[:, None]
    assert compare(NAME, changed(episode, observations=drifting)) is Likeness.ALIKE
    far = path + np.linspace(0, 5 * path.std(), len(path), dtype=np.float32)[:, None]
    assert compare(NAME, changed(episode, observations=far)) is Likeness.OTHER
    other_start = changed(episode, observations=path + np.float32(0.1))
    assert compare(NAME, other_start) is Likeness.OTHER
    double = changed(episode, observations=path.astype(np.float64))
    assert compare(NAME, double) is Likeness.OTHER
    less = {name: values for name, values in episode.items() if name != "qvel"}
    assert compare(NAME, less) is Likeness.OTHER
    assert compare("antmaze-large-navigate", episode) is None


def test_the_episode_on_record_is_the_first_of_every_file_of_its_seed(tmp_path, episode):
    train, held_out = generate(NAME, episodes=2, directory=tmp_path, workers=1, progress=False)
    found = read_first_episode(train)
    assert found is not None
    assert found.keys() == episode.keys()
    for name, values in episode.items():
        np.testing.assert_array_equal(found[name], values)
    assert read_first_episode(held_out) is None
    with pytest.raises(UserError, match=f"{Likeness.SAME.value}|{Likeness.CLOSE.value}|like the"):
        download([NAME], directory=tmp_path, progress=False)


def test_a_damaged_generated_file_is_said_to_be_so(tmp_path):
    train, _ = generate(NAME, episodes=2, directory=tmp_path, workers=1, progress=False)
    content = bytearray(train.read_bytes())
    content[2000] ^= 255
    train.write_bytes(content)
    with pytest.raises(UserError, match=r"generated here .*(damaged: |not the one on record)"):
        download([NAME], directory=tmp_path, progress=False)


def test_another_seed_is_not_on_record(tmp_path):
    train, _ = generate(NAME, episodes=1, seed=1, directory=tmp_path, workers=1, progress=False)
    assert read_first_episode(train) is None

"""Generated episodes match the table of reference episodes."""

import zipfile
import zlib

import numpy as np
import pytest
from reference_episodes import (
    ReferenceMatch,
    compare,
    draw_reference,
    platform_info,
    read_first_episode,
    read_table,
)

from qamx.data.ogbench.catalogue import dataset_names, lookup
from qamx.data.ogbench.download import download
from qamx.data.ogbench.generate import generate
from qamx.errors import UserError

NAME = "pointmaze-medium-navigate"


@pytest.fixture(scope="module")
def episode():
    return draw_reference(NAME)


def promised():
    """Agreement to expect here: bitwise only with the table's software and processor."""
    reference, present = dict(read_table()["made_with"]), platform_info()
    if reference == present:
        return {ReferenceMatch.IDENTICAL}
    for part in ("machine", "processor"):
        del reference[part], present[part]
    rounding = {ReferenceMatch.IDENTICAL, ReferenceMatch.ROUNDING}
    return rounding if reference == present else rounding | {ReferenceMatch.SIMILAR}


def test_a_set_is_generated_as_its_reference(episode):
    assert compare(NAME, episode) in promised()


def test_references_are_of_sets_that_can_be_generated():
    episodes = read_table()["episodes"]
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
    assert compare(NAME, rounding) is ReferenceMatch.ROUNDING
    drifting = path + np.linspace(0, 0.3 * path.std(), len(path), dtype=np.float32)[:, None]
    assert compare(NAME, changed(episode, observations=drifting)) is ReferenceMatch.SIMILAR
    far = path + np.linspace(0, 5 * path.std(), len(path), dtype=np.float32)[:, None]
    assert compare(NAME, changed(episode, observations=far)) is ReferenceMatch.DIFFERENT
    other_start = changed(episode, observations=path + np.float32(0.1))
    assert compare(NAME, other_start) is ReferenceMatch.DIFFERENT
    double = changed(episode, observations=path.astype(np.float64))
    assert compare(NAME, double) is ReferenceMatch.DIFFERENT
    less = {name: values for name, values in episode.items() if name != "qvel"}
    assert compare(NAME, less) is ReferenceMatch.DIFFERENT
    assert compare("antmaze-large-navigate", episode) is None


def test_the_reference_is_the_first_episode_of_every_file_of_its_seed(tmp_path, episode):
    train, held_out = generate(NAME, episodes=2, directory=tmp_path, workers=1, progress=False)
    found = read_first_episode(train)
    assert found is not None
    assert found.keys() == episode.keys()
    for name, values in episode.items():
        np.testing.assert_array_equal(found[name], values)
    assert read_first_episode(held_out) is None
    assert compare(NAME, found) in promised()


def is_damaged(path):
    try:
        episode = read_first_episode(path)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
        return True
    return episode is not None and compare(NAME, episode) is ReferenceMatch.DIFFERENT


def test_a_damaged_generated_file_is_noticed_and_not_replaced(tmp_path):
    train, _ = generate(NAME, episodes=2, directory=tmp_path, workers=1, progress=False)
    assert not is_damaged(train)
    content = bytearray(train.read_bytes())
    content[2000] ^= 255
    train.write_bytes(content)
    assert is_damaged(train)
    with pytest.raises(UserError, match=r"generated here "):
        download([NAME], directory=tmp_path, progress=False)
    assert train.read_bytes() == content


def test_another_seed_has_no_reference(tmp_path):
    train, _ = generate(NAME, episodes=1, seed=1, directory=tmp_path, workers=1, progress=False)
    assert read_first_episode(train) is None

"""`--strength` of `qamx eval` and `qamx export`: one run at several strengths of its guidance."""

import json

import numpy as np
import pytest
from short_run import short_run

from qamx.cli import main
from qamx.deploy import load_policy
from qamx.evaluation.policy_source import source_of_run

OWN = 0.5
GUIDED = (
    "agent.method=qgf",
    "agent.inverse_temperature=",
    "agent.expectile=0.9",
    f"agent.guidance_strength={OWN}",
    "agent.exploration_strength=0.0",
)


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """The folder of a short run of a method whose sampler has a strength."""
    return short_run(tmp_path_factory.mktemp("strength"), *GUIDED)


@pytest.fixture(scope="module")
def unguided(tmp_path_factory):
    """The folder of one whose sampler has none."""
    return short_run(tmp_path_factory.mktemp("unguided"))


def actions(source):
    return source.act_for(7, "evaluate")(np.ones((2, 2), np.float32), 0)


def test_one_run_is_played_at_several_strengths(guided, tmp_path, capsys):
    file = tmp_path / "found.json"
    strengths = ["0", "0.5", "40"]
    line = ["eval", str(guided), "--strength", *strengths, "--behaviour", "--json", str(file)]
    assert main([*line, "--episodes", "1", "--seed", "7"]) == 0
    found = json.loads(file.read_text())["evaluations"]
    played = [(row["policy"], row["strength"]) for row in found]
    assert played == [
        ("evaluate", 0.0),
        ("behaviour", 0.0),
        ("evaluate", 0.5),
        ("evaluate", 40.0),
    ]
    assert len({row["episodes"][0]["seed"] for row in found}) == 1
    for row in found:
        assert len(row["interval"]) == 2
    said = capsys.readouterr().out
    assert all(f"qgf, strength {strength}" in said for strength in strengths)


def test_one_run_is_filmed_at_several_strengths(guided, tmp_path, monkeypatch):
    filmed = []

    def write(files, rate, cells, grid):
        filmed.extend((cell.result.policy, cell.episode.seed) for cell in cells)
        for file in files:
            file.touch()

    for part in ("choose_backend", "check_draws", "Grid"):  # nothing is drawn here
        monkeypatch.setattr(f"qamx.evaluation.video.{part}", lambda *_, **__: "")
    monkeypatch.setattr("qamx.evaluation.video.write_videos", write)
    line = ["video", str(guided), "--strength", "0", "40", "--behaviour", "--episodes", "1"]
    assert main([*line, "--size", "64", "--out", str(tmp_path / "episodes.mp4")]) == 0
    assert [policy for policy, _ in filmed] == ["qgf, strength 0", "behaviour", "qgf, strength 40"]
    assert len({seed for _, seed in filmed}) == 1


def test_the_strength_changes_the_sampler_alone(guided):
    source = source_of_run(guided)
    own, same, other = (actions(s) for s in (source, *map(source.with_strength, (OWN, 40.0))))
    np.testing.assert_array_equal(own, same)
    assert np.abs(other - own).max() > 1e-3
    still, cloned = source.with_strength(0.0), source.act_for(7, "behaviour")
    expected = cloned(np.ones((2, 2), np.float32), 0)
    np.testing.assert_allclose(actions(still), expected, atol=1e-6)


def test_a_policy_is_exported_at_one_strength(guided, tmp_path):
    out = tmp_path / "policy"
    assert main(["export", str(guided), "--strength", "40", "--out", str(out)]) == 0
    policy = load_policy(out)
    assert policy.metadata.policy["strength"] == 40.0
    assert policy.metadata.evaluation is None
    with pytest.raises(SystemExit):
        main(["export", str(guided), "--strength", "1", "2", "--out", str(out)])


@pytest.mark.parametrize("command", ["eval", "export"])
@pytest.mark.parametrize(
    ("run", "strength", "said"),
    [
        ("guided", "-0.1", "--strength: found -0.1; write a number of at least 0, e.g. 0.02"),
        ("guided", "nan", "--strength: found nan; write a number of at least 0, e.g. 0.02"),
        ("guided", "inf", "--strength: found inf; write a number of at least 0, e.g. 0.02"),
        ("unguided", "0.1", "samples without guidance, so it has none; leave it out"),
        ("guided", "much", "argument --strength: invalid float value: 'much'"),
    ],
)
def test_a_strength_that_cannot_be_is_refused(command, run, strength, said, request, capsys):
    folder = request.getfixturevalue(run)
    capsys.readouterr()
    try:
        code = main([command, str(folder), f"--strength={strength}"])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_a_pair_and_an_exported_policy_play_at_their_own(guided, tmp_path, capsys):
    pair = ["eval", "--paired", str(guided), str(guided), "--strength", "0.1"]
    assert main(pair) == 2
    assert "--strength: the two policies of --paired play at their own" in capsys.readouterr().err
    out = tmp_path / "policy"
    assert main(["export", str(guided), "--out", str(out)]) == 0
    assert main(["eval", str(out), "--strength", "0.1"]) == 2
    assert "is an exported policy, whose strength is fixed; leave it out" in capsys.readouterr().err

"""Each defect planted in a sound data set is found by `inspect`, and by what a run loads."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corner import Corner
from samples import environment, settings_of

from qamx._utils.finding import Finding, listed, ranked
from qamx.building import in_policy_units
from qamx.data.inspection.episode_checks import check_finite
from qamx.data.inspection.statistics import (
    DatasetStatistics,
    episode_hashes,
    explained_variance,
    row_hashes,
)
from qamx.data.inspection.summary import run_checks
from qamx.data.source import ValidatedData
from qamx.data.transitions import Transitions
from qamx.errors import UserError
from qamx.tools.inspect_data.inspection import InspectionTarget, inspect

ROOT = Path(__file__).parents[2]
HORIZON = 4


def walks(seed=0, episodes=60, steps=60):
    """Random walks with a memory towards a goal, which ends them: observations of 6 entries."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(episodes):
        x, goal, rows = rng.uniform(-1, -0.5, 2), rng.uniform(0.5, 1, 2), []
        last = np.zeros(2)
        while len(rows) < steps:
            action = np.clip(rng.normal(goal - x, 0.3), -1, 1)
            seen = np.concatenate([x, goal, last])
            x, last = x + 0.1 * action, action
            solved = float(np.linalg.norm(x - goal) < 0.1)
            rows.append(
                (seen, action, solved - 1, 1 - solved, 0.0, np.concatenate([x, goal, last]))
            )
            if solved:
                break
        rows[-1] = (*rows[-1][:4], 1.0, rows[-1][5])
        parts += rows
    return Transitions(*(np.asarray(column, np.float32) for column in zip(*parts, strict=True)))


class Memory:
    """A data source whose shards are there already."""

    updates_per_shard = 10

    def __init__(self, *shards, validation=None):
        self._shards, self._validation = shards, validation

    @property
    def shards(self):
        return len(self._shards)

    def load(self, shard):
        return self._shards[shard]

    def load_validation(self):
        return self._validation


SOUND = walks()
SIZE = len(SOUND)
STARTS = np.flatnonzero(np.append(1, np.asarray(SOUND.ends)[:-1]))


def changed(name, where, value):
    """The sound set with some places of one array overwritten."""
    array = np.array(getattr(SOUND, name))
    array[where] = value
    return replace(SOUND, **{name: array})


def seen(change):
    """The sound set with observations changed alike before and after each step."""
    return replace(
        SOUND,
        observations=change(np.array(SOUND.observations)),
        next_observations=change(np.array(SOUND.next_observations)),
    )


def rows(kept):
    """Some rows of the sound set, in the order given."""
    return Transitions(*(np.asarray(array)[kept] for array in vars(SOUND).values()))


def with_entry(entry, value):
    def change(array):
        array[:, entry] = value(array[:, entry])
        return array

    return seen(change)


def shuffled():
    return rows(np.random.default_rng(0).permutation(SIZE))


def shuffled_and_joined():
    """Rows in any order, each followed by its neighbour: as a file without next observations."""
    mixed = np.array(shuffled().observations)
    return replace(SOUND, observations=mixed[:-1], next_observations=mixed[1:], **rest(SIZE - 1))


def rest(size):
    return {name: getattr(SOUND, name)[:size] for name in ("actions", "rewards", "masks", "ends")}


def without_some_ends():
    return changed("ends", STARTS[1:20] - 1, 0.0)


def one_episode_twice():
    first = np.arange(STARTS[1])
    return rows(np.concatenate([np.arange(SIZE), first]))


def frozen():
    """An episode of 100 rows in which nothing moves, behind the others."""
    still = rows(np.full(100, 5))
    still = replace(still, next_observations=still.observations, ends=np.eye(100)[-1])
    columns = zip(vars(SOUND).values(), vars(still).values(), strict=True)
    return Transitions(*(np.concatenate(pair).astype(np.float32) for pair in columns))


def leaping():
    """Two episodes after one another without an end between, as if it were one that leaps."""
    far = STARTS[10]
    array = np.array(SOUND.observations)
    array[far:, 2:4] += 3.0  # goals elsewhere from here on
    array[far:, :2] += 3.0
    following = np.array(SOUND.next_observations)
    following[far:, :4] += 3.0
    following[far - 1] = array[far]
    joined = replace(SOUND, observations=array, next_observations=following)
    return replace(joined, ends=np.where(np.arange(SIZE) == far - 1, 0, SOUND.ends))


def cut_to(length):
    """All episodes cut to pieces of one length, remainders left out."""
    lengths = np.diff(STARTS, append=SIZE)
    place = np.arange(SIZE) - np.repeat(STARTS, lengths)
    kept = rows(np.flatnonzero(place < np.repeat(lengths // length * length, lengths)))
    ends = (np.arange(len(kept)) % length == length - 1).astype(np.float32)
    return replace(kept, ends=ends)


def some_short():
    ends = np.array(SOUND.ends)
    ends[STARTS[:5] + 1] = 1
    return replace(SOUND, ends=ends)


def one_shard_again():
    return Memory(SOUND, SOUND)


def unequal_shards():
    return Memory(SOUND, rows(np.arange(STARTS[30])))


ACTIONS = np.asarray(SOUND.actions)
SOLVED = np.asarray(SOUND.masks) == 0
JITTER = 2e-6 * np.random.default_rng(2).normal(size=SIZE)

PLANTED = {
    "observations-not-finite": lambda: changed("observations", (7, 1), np.nan),
    "next-observations-not-finite": lambda: changed("next_observations", 9, np.inf),
    "actions-not-finite": lambda: changed("actions", 7, np.nan),
    "rewards-not-finite": lambda: changed("rewards", 7, -np.inf),
    "masks-not-finite": lambda: changed("masks", 7, np.nan),
    "shapes": lambda: replace(SOUND, actions=ACTIONS[:-1]),
    "actions-outside": lambda: replace(SOUND, actions=2 * ACTIONS),
    "actions-saturated": lambda: replace(SOUND, actions=np.sign(ACTIONS)),
    "actions-constant": lambda: changed("actions", (slice(None), 1), 0.25),
    "actions-nearly-constant": lambda: changed("actions", (slice(None), 1), 0.25 + JITTER),
    "actions-narrow": lambda: replace(SOUND, actions=0.01 * ACTIONS),
    "actions-shifted": lambda: replace(SOUND, actions=np.roll(ACTIONS, 1, axis=0)),
    "actions-unrelated": lambda: replace(
        SOUND, actions=np.random.default_rng(1).permutation(ACTIONS)
    ),
    "observations-constant": lambda: with_entry(2, np.zeros_like),
    "observations-nearly-constant": lambda: with_entry(2, lambda column: 0.5 + 2e-6 * column),
    "observations-unscaled": lambda: with_entry(2, lambda column: 5_000 * column),
    "observations-outliers": lambda: changed("observations", (STARTS[3], 0), 1e5),
    "observations-frozen": frozen,
    "observations-jump": leaping,
    "ends-not-flags": lambda: changed("ends", 5, 0.5),
    "no-ends": lambda: replace(SOUND, ends=np.zeros(SIZE, np.float32)),
    "cut-off": lambda: rows(np.arange(SIZE - 1 - int(SOUND.ends[-2]))),
    "ends-missing": without_some_ends,
    "rows-shuffled": shuffled,
    "all-episodes-short": lambda: cut_to(3),
    "episodes-short": some_short,
    "windows-cut": lambda: cut_to(5),
    "few-windows": lambda: rows(np.arange(STARTS[5])),
    "episodes-duplicate": one_episode_twice,
    "rewards-constant": lambda: replace(
        SOUND, rewards=np.full(SIZE, -1, np.float32), masks=np.ones(SIZE, np.float32)
    ),
    "rewards-outliers": lambda: changed("rewards", 3, 1e6),
    "rewards-unscaled": lambda: replace(SOUND, rewards=500 * np.asarray(SOUND.rewards)),
    "masks-not-flags": lambda: replace(SOUND, masks=np.float32(0.99) * np.asarray(SOUND.masks)),
    "masks-inverted": lambda: replace(SOUND, masks=1 - np.asarray(SOUND.masks)),
    "masks-inconsistent": lambda: replace(SOUND, masks=np.roll(np.asarray(SOUND.masks), 7)),
    "masks-never-zero": lambda: replace(SOUND, masks=np.ones(SIZE, np.float32)),
    "shards-unequal": unequal_shards,
    "shards-duplicate": one_shard_again,
}
"""A data set with each kind of defect, by the id of its finding."""


def source_of(planted):
    return Memory(planted) if isinstance(planted, Transitions) else planted


def inspected(source, horizon=HORIZON):
    return inspect(InspectionTarget("mine:x", horizon, source, source))


def found(source, horizon=HORIZON):
    return {finding.id: finding.level for finding in inspected(source, horizon).findings}


def loads(source):
    """Loads all shards as a run does."""
    data = ValidatedData(source, "mine:x", HORIZON)
    for shard in range(source.shards):
        data.load(shard)


def test_an_observation_that_is_not_finite_is_refused_once():
    """Row 7 is the next observation of row 6; that of another row is a fault of its own."""
    observations, following = np.array(SOUND.observations), np.array(SOUND.next_observations)
    observations[7, 1] = following[6, 1] = np.nan
    broken = replace(SOUND, observations=observations, next_observations=following)
    (finding,) = check_finite(broken)
    assert finding.id == "observations-not-finite"
    following[20, 0] = np.inf
    found = {finding.id: finding.found for finding in check_finite(broken)}
    assert "found inf in row 20 (1 row in all)" in found["next-observations-not-finite"]


def test_a_sound_set_is_sound(capsys):
    source = Memory(SOUND, validation=walks(seed=1, episodes=5))
    report = inspected(source)
    assert report.findings == ()
    assert report.validation_rows is not None
    loads(source)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_defect_is_found_by_inspect_and_by_a_run(kind, capsys):
    source = source_of(PLANTED[kind]())
    levels = found(source)
    assert kind in levels
    # `inspect` knows no bounds of the actions here; a run has them in [-1, 1].
    refused = levels[kind] == "refuse" or kind == "actions-outside"
    if refused:
        with pytest.raises(UserError, match=r"^mine:x"):
            loads(source)
    else:
        try:
            loads(source)
        except UserError:
            assert "refuse" in levels.values()
            return
        lines = capsys.readouterr().err.splitlines()
        finding = next(f for f in inspected(source).findings if f.id == kind)
        assert any(finding.found in line and line.startswith("warning: mine:x") for line in lines)


def test_every_kind_of_finding_is_planted_here_or_in_a_file_and_documented():
    folders = ("data", "data/inspection", "tools/inspect_data")
    paths = [path for folder in folders for path in (ROOT / "qamx" / folder).glob("*.py")]
    named = {
        name for path in paths for name in re.findall(r'Finding\(\s*"(.+?)"', path.read_text())
    }
    assert named
    elsewhere = {"validation-leak", "unreadable", "sizes", "units-unknown", "task-unsolved"}
    assert named | PLANTED.keys() == PLANTED.keys() | elsewhere
    assert len(PLANTED) >= 20
    page = (ROOT / "docs" / "inspect.md").read_text()
    documented = re.findall(r"^\| `([a-z-]+)`", page, re.MULTILINE)
    assert sorted(documented) == sorted(PLANTED.keys() | elsewhere)


def test_rows_shuffled_in_a_file_without_next_observations_are_warned_of():
    assert found(Memory(shuffled_and_joined()))["rows-shuffled"] == "warn"
    assert found(Memory(shuffled()))["rows-shuffled"] == "refuse"
    assert found(Memory(shuffled()), horizon=1)["rows-shuffled"] == "note"


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("observations-nearly-constant", {"normalise_observations": True, "scale_actions": "none"}),
        ("actions-nearly-constant", {"scale_actions": "data"}),
    ],
)
def test_units_do_not_hide_what_hardly_varies(kind, keys, capsys):
    raw = Memory(PLANTED[kind](), walks(seed=1, episodes=5))
    source, _ = in_policy_units(raw, Corner, settings_of("npz:mine", **keys), environment())
    (finding,) = (one for one in inspected(source).findings if one.id == kind)
    assert (finding.level, finding.where) == ("warn", "shard 0")
    assert "; dimension " in finding.found
    ValidatedData(source, "mine:x", HORIZON).load(0)
    assert f"warning: mine:x, shard 0: {finding.found}; " in capsys.readouterr().err


def test_validation_data_that_was_trained_on_is_a_leak():
    leaked = rows(np.arange(STARTS[3], STARTS[6]))
    report = inspected(Memory(SOUND, validation=leaked))
    (finding,) = report.findings
    assert finding.id == "validation-leak"
    assert finding.found.startswith(f"{len(leaked)} of {len(leaked)} validation rows")
    # Half of it, and in the second shard.
    other = walks(seed=2)
    half = Transitions(
        *(
            np.concatenate([mine, theirs[: len(mine)]])
            for mine, theirs in zip(vars(leaked).values(), vars(other).values(), strict=True)
        )
    )
    first = walks(seed=3)
    report = inspected(Memory(first, SOUND, validation=half))
    leak = next(f for f in report.findings if f.id == "validation-leak")
    assert leak.found.startswith(f"{len(leaked)} of {2 * len(leaked)}")


def test_several_faults_are_found_at_once_and_shards_are_named():
    source = Memory(
        changed("observations", 3, np.nan),
        changed("actions", 4, np.inf),
        replace(SOUND, masks=1 - np.asarray(SOUND.masks)),
    )
    places = {finding.id: finding.where for finding in inspected(source).findings}
    assert places["observations-not-finite"] == "shard 0"
    assert places["actions-not-finite"] == "shard 1"
    assert places["masks-inverted"] == "shard 2"
    assert list(places)[:2] == ["observations-not-finite", "actions-not-finite"]


def test_a_shard_that_cannot_be_read_keeps_none_from_being_inspected():
    class Broken(Memory):
        def load(self, shard):
            if shard == 0:
                raise UserError("file.npz: actions: missing")
            return super().load(shard)

    report = inspected(Broken(SOUND, replace(SOUND, actions=np.sign(ACTIONS))))
    assert [(f.id, f.where) for f in report.findings] == [
        ("unreadable", "shard 0"),
        ("actions-saturated", "shard 1"),
    ]
    assert report.findings[0].found == "file.npz: actions: missing"
    assert report.summary is not None


def test_a_run_is_warned_once_of_each_kind(capsys):
    source = Memory(some_short(), some_short())
    data = ValidatedData(source, "mine:x", HORIZON)
    for shard in (0, 1, 0):
        data.load(shard)
    lines = capsys.readouterr().err.splitlines()
    assert sum("shorter than a chunk" in line for line in lines) == 1
    assert sum("are in shard 0 already" in line for line in lines) == 1


def test_short_episodes_are_warned_of_with_what_they_cost():
    ends = np.zeros(11, np.float32)
    ends[[1, 7, 10]] = 1
    facts = rows(np.arange(11))
    findings = {f.id: f for f in run_checks(replace(facts, ends=ends), 4)[0]}
    # Windows start at rows 0 to 7; rows 2, 3 and 4 begin the three whole ones.
    short = findings["episodes-short"]
    assert short.found == "2 of 3 episodes are shorter than a chunk of 4 steps"
    assert "62% of the windows drawn are cut" in short.effect


def test_jumps_are_no_fault_where_the_environment_has_portals():
    class Portals(Memory):
        has_teleports = True

    assert "observations-jump" in found(Memory(leaping()))
    assert "observations-jump" not in found(Portals(leaping()))


def test_a_switch_at_its_bounds_is_no_warning():
    gripper = np.sign(np.random.default_rng(0).normal(size=(SIZE, 1))).astype(np.float32)
    actions = np.concatenate([ACTIONS, gripper], axis=1)
    assert found(Memory(replace(SOUND, actions=actions))) == {"actions-saturated": "note"}
    actions[:, 0] = np.clip(8 * actions[:, 0], -1, 1)  # clipped, with some values in between
    assert found(Memory(replace(SOUND, actions=actions)))["actions-saturated"] == "warn"


def test_returns_that_end_in_failure_are_no_contradiction():
    # Alive is 1, and the fall at the end 0: the best reward is no rare success.
    alive = 1 - np.asarray(SOUND.ends)
    assert found(Memory(replace(SOUND, rewards=alive, masks=alive))) == {}


def test_the_actions_of_a_linear_system_explain_what_follows_in_closed_form():
    # s' = s + a with independent unit normals: a explains all of s' − s, others nothing.
    rng = np.random.default_rng(0)
    action = rng.normal(size=(5_000, 1))
    state = np.cumsum(np.vstack([[[0.0]], action]), axis=0)
    plain = np.zeros(5_000, np.float32)
    transitions = Transitions(state[:-1], action, plain, plain + 1, plain, state[1:])
    shares = explained_variance(DatasetStatistics(transitions, 1))
    assert shares is not None
    assert shares.own == pytest.approx(1.0, abs=0.01)
    assert abs(shares.before) < 0.01
    assert abs(shares.after) < 0.01
    assert shares.chance == pytest.approx(1 / 5_000, rel=0.01)


def test_hashes_tell_rows_and_their_order_apart():
    hashes = row_hashes(SOUND)
    assert len(np.unique(hashes)) == SIZE
    np.testing.assert_array_equal(row_hashes(rows(np.arange(5, 9))), hashes[5:9])
    starts = np.array([0, 3])
    one, other = episode_hashes(hashes[[0, 1, 2, 1, 0, 2]], starts)
    again, same = episode_hashes(hashes[[0, 1, 2, 0, 1, 2]], starts)
    assert one == again == same != other


def test_findings_of_one_kind_are_merged_and_ranked():
    note, warning = Finding("a", "note", "x", ""), Finding("b", "warn", "y", "")
    merged = ranked([note, replace(warning, where="one"), replace(warning, where="two")])
    assert [(finding.id, finding.where) for finding in merged] == [("b", "one, two"), ("a", "")]
    assert listed([3, 5, 6, 7, 9]) == "3, 5-7, 9"
    assert listed(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10 and 14 more"

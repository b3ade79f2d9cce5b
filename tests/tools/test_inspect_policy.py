"""`qamx inspect`: numbers against closed forms, every method, the command and its page."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_agent import ACT, HORIZON, KEY, METHODS, OBS, agent_of
from test_inspect_data import NAME, walk

from qamx import Backup, Integrator, create_state, load
from qamx._utils.defaults import derived_seed
from qamx.agents import Agent, adam
from qamx.building import build_agent
from qamx.cli import main
from qamx.data.transitions import Transitions
from qamx.errors import UserError
from qamx.nn import AbstractCritic, AbstractVelocityField
from qamx.normalisation import Normalisation
from qamx.policies import (
    AbstractDerivedPolicy,
    AbstractPolicy,
    AdjointMatchedFlow,
    BehaviourFlow,
    TargetBehaviourFlow,
    flow_stage,
)
from qamx.provenance import stamp
from qamx.rl import TemporalDifference, WithTarget
from qamx.schedules import Constant, TrustRegion
from qamx.tools.inspect_policy.checks import findings
from qamx.tools.inspect_policy.inspection import inspect, measure, policy_stages, sde_diagnostics
from qamx.tools.inspect_policy.output import absent, page_figures, print_report, to_json
from qamx.tools.inspect_policy.states import (
    InspectedRun,
    discounted_return,
    load_run,
    select_states,
    whole_windows,
)
from qamx.training.checkpoint import Checkpoints
from qamx.training.guards import locked

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.toml"


# --- closed forms ---


class Affine(AbstractVelocityField):
    """v = a x + c."""

    slope: jax.Array
    offset: jax.Array

    def __call__(self, observation, x, t):
        return self.slope * x + self.offset


class LinearCritic(AbstractCritic):
    """Q_k = (w . a) of all k but for a constant."""

    weight: jax.Array

    def __call__(self, observation, action):
        return jnp.stack([action @ self.weight - 1.0, action @ self.weight + 1.0])


STEPS, SLOPE, TAU = 5, -0.7, 3.0
WEIGHT, OFFSET = jnp.array([0.5, -1.2]), jnp.array([0.3, -0.1])


def affine_agent(offset):
    """A critic and a flow whose base and change are known."""
    flow = BehaviourFlow(Affine(jnp.array(SLOPE), jnp.zeros(2)), Integrator(STEPS), 2)
    policy = AdjointMatchedFlow(
        TargetBehaviourFlow(WithTarget(flow, 0.005)),
        Affine(jnp.array(SLOPE), offset),
        Constant(TAU),
        horizon=2,
    )
    return Agent(
        TemporalDifference(WithTarget(LinearCritic(WEIGHT), 0.005), Backup(0.9, 2, 0.5)), policy
    )


@pytest.fixture(scope="module")
def affine():
    agent = affine_agent(OFFSET)
    return agent, measure(agent, np.zeros((3, 1), np.float32), 200, KEY)


def test_path_kl_of_a_constant_change(affine):
    h = 1 / STEPS
    t = np.arange(STEPS) * h
    sigma_squared = 2 * (1 - t + h) / (t + h)
    expected = 2 * h / sigma_squared * float(jnp.sum(OFFSET**2))
    costs = affine[1].paths.costs
    np.testing.assert_allclose(costs, np.broadcast_to(expected[:, None, None], costs.shape), 1e-4)


def test_adjoints_of_a_linear_flow_and_critic(affine):
    """g_1 = -tau w inside the box, and each step back multiplies by 1 + h (2a - 1/(t + h))."""
    h = 1 / STEPS
    after = (np.arange(STEPS) + 1) * h
    factors = np.append(np.cumprod((1 + h * (2 * SLOPE - 1 / after))[::-1])[::-1], 1.0)
    adjoints = affine[1].paths.adjoints
    whole = adjoints.blocked == 0
    assert 0.1 < np.mean(whole) < 1
    expected = np.abs(factors) * TAU * float(jnp.linalg.norm(WEIGHT))
    found = adjoints.norms[:, whole]
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), 1e-4)
    assert not adjoints.norms[:, adjoints.blocked == 1].any()


def test_residuals_are_those_of_the_objective(affine):
    agent, found = affine
    adjoints = found.paths.adjoints
    rows = jnp.zeros((600, 1))
    path_key = jax.random.split(KEY)[1]
    loss, metrics = eqx.filter_jit(type(agent.policy).matching_loss)(
        agent.policy, agent.critic.target, rows, path_key
    )
    assert np.mean(np.sum(adjoints.residuals, axis=0)) == pytest.approx(float(loss), rel=1e-5)
    kl = np.mean(np.sum(found.paths.costs, axis=0)) / agent.policy.horizon
    assert kl == pytest.approx(float(metrics.path_kl), rel=1e-5)


def test_a_price_of_control_is_no_part_of_what_is_shown():
    """TRQAM's price is 3 at first, which is QAM at tau = 1/3."""
    agent = affine_agent(OFFSET)
    one, other = (
        eqx.filter_jit(sde_diagnostics)(
            eqx.tree_at(lambda policy: policy.inverse_temperature, agent.policy, schedule),
            agent.critic.target,
            jnp.zeros((5, 1)),
            KEY,
        )
        for schedule in (TrustRegion(1.0, scale=3.0), Constant(1.0 / 3.0))
    )
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_base_and_fine_tuned_in_one_are_exactly_no_distance_apart():
    found = measure(affine_agent(jnp.zeros(2)), np.zeros((2, 1), np.float32), 4, KEY)
    assert found.paths is not None
    assert not np.any(found.paths.costs)
    base, acting = found.stages
    np.testing.assert_array_equal(base.actions, acting.actions)  # of the same noise


def test_returns_by_hand():
    rewards, masks = np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 1.0])
    assert discounted_return(rewards, masks, 0.5) == 2.0
    assert np.isnan(discounted_return(rewards, np.ones(3), 0.5))
    assert discounted_return(rewards, np.ones(3), 0.3) == pytest.approx(1 + 0.6 + 0.36)


def test_whole_windows_by_hand():
    ends = np.array([0, 0, 1, 0, 0, 0, 1], np.float32)
    column = np.zeros((7, 1), np.float32)
    data = Transitions(column, column, ends, ends, ends, column)
    np.testing.assert_array_equal(whole_windows(data, 3), [0, 3, 4])
    np.testing.assert_array_equal(whole_windows(data, 1), np.arange(7))


# --- every method ---


def make_data(rng):
    size = 200
    ends = np.zeros(size, np.float32)
    ends[99::100] = 1
    columns = (
        rng.normal(size=(size, OBS)),
        rng.uniform(-1, 1, (size, ACT)),
        rng.uniform(-1, 0, size),
        np.ones(size),
        ends,
        rng.normal(size=(size, OBS)),
    )
    return Transitions(*(np.asarray(column, np.float32) for column in columns))


METRICS = [
    {"step": 10, "phase": "offline", "critic/loss": 1.0, "critic/q_mean": 0.1},
    {"step": 20, "phase": "online", "critic/loss": 0.4, "critic/q_mean": 0.2},
]


def run_of(agent, **changes):
    """A run of an agent that was never trained."""
    experiment = load(QUICKSTART, [f"agent.horizon={HORIZON}"])
    values = {
        "directory": Path("run"),
        "experiment": experiment,
        "agent": agent,
        "step": 20,
        "scaling": Normalisation(),
        "data": make_data(np.random.default_rng(0)),
        "metrics": METRICS,
        "evaluations": [{"step": 20, "phase": "online", "success": 0.5}],
    }
    return InspectedRun(**(values | changes))


WITHOUT = {
    "base": {"fbrac", "fawac", "qsm", "dac", "rebrac", "rlpd", "rql"},
    "flow": {"qsm", "dac", "rebrac", "rlpd"},
    "adjoints": set(METHODS) - {"qam", "qam_fql", "qam_edit", "trqam", "trqam_edit"},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_report(name, capsys):
    agent = agent_of(name)
    report = inspect(run_of(agent), (), 3, 4, 0)
    found = report.found
    assert report.finite
    assert (report.base is None) == (name in WITHOUT["base"])
    assert all(stage.along is None for stage in found.stages) == (name in WITHOUT["flow"])
    adjoints = found.paths is not None and found.paths.adjoints is not None
    assert adjoints == (name not in WITHOUT["adjoints"])
    assert (found.paths is not None) == (adjoints or name == "bam")
    gaps = (not adjoints) + (name in WITHOUT["base"]) + (name in WITHOUT["flow"])
    assert len([*absent(report)]) == gaps
    for stage in found.stages:
        assert np.abs(stage.actions).max() <= 1
        if stage.along is not None:  # the way ends where the sample is
            np.testing.assert_allclose(stage.along[:, -1], stage.values, rtol=1e-4, atol=1e-5)
    print_report(report)
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 70
    assert type(agent.policy).__name__ in said or not gaps
    json.dumps(to_json(report), allow_nan=False)
    names = [figure.name for figure in page_figures(report)]
    assert ("path_kl" in names, "adjoints" in names) == (found.paths is not None, adjoints)
    assert ("critic" in names) == (name not in WITHOUT["flow"])


@pytest.mark.parametrize("name", ["qam", "fbrac", "cgql", "dsrl", "rql"])
def test_a_flow_that_is_followed_ends_where_an_evaluation_acts(name):
    agent = agent_of(name)
    observation = jnp.asarray(np.random.default_rng(0).normal(size=(6, OBS)), jnp.float32)

    @eqx.filter_jit
    def both(agent):
        return agent.act_in_evaluation(observation, KEY), policy_stages(agent)[-1].draw(
            observation, KEY
        )

    np.testing.assert_allclose(*both(agent), atol=1e-6)


class Halved(AbstractDerivedPolicy):
    """A user's policy, which plays half of its base's action."""

    base: AbstractPolicy

    def sample(self, critic, observation, key):
        return self.base.sample(critic, observation, key) / 2

    def loss(self, critic, batch, key):
        return self.base.loss(critic, batch, key)


class HalvedFlow(Halved):
    """The same, whose chunks come from an ODE that it names."""

    def stages(self, critic):
        before = self.base.stages(critic)
        route = before[-1].route
        assert route is not None

        def start(observation, key):
            return route.start(observation, key) / 2

        return [*before, flow_stage("halved", start, route.velocity, route.integrator)]


@pytest.mark.parametrize(
    ("wrap", "names", "flows"),
    [
        (Halved, ["behaviour flow", "fine-tuned flow", "Halved"], [True, True, False]),
        (HalvedFlow, ["behaviour flow", "fine-tuned flow", "halved"], [True, True, True]),
    ],
)
def test_a_policy_of_the_users_own_is_inspected_by_its_stages(wrap, names, flows, capsys):
    agent = eqx.tree_at(lambda a: a.policy, agent_of("qam"), replace_fn=wrap)
    report = inspect(run_of(agent), (), 3, 4, 0)
    stages = report.found.stages
    assert report.names == names
    assert [stage.along is not None for stage in stages] == flows
    if wrap is Halved:
        drawn = policy_stages(agent)[-1].draw(jnp.ones((6, OBS)), KEY)
        np.testing.assert_array_equal(drawn, agent.act_in_evaluation(jnp.ones((6, OBS)), KEY))
    assert report.found.paths is not None  # of the fine-tuned flow inside
    print_report(report)
    assert names[-1] in capsys.readouterr().out


def test_the_figure_of_actions_that_are_not_planar():
    """A chunk of six steps of one entry: a row of panels for the base, one for what acts."""
    data = make_data(np.random.default_rng(0))
    narrow = dataclasses.replace(data, actions=data.actions[:, :1])
    experiment = load(QUICKSTART, ["agent.horizon=6"])
    run = run_of(agent_of("dsrl"), data=narrow, experiment=experiment)
    report = inspect(run, (), 3, 4, 0)
    figure = next(page_figures(report))
    assert "a row a policy" in figure.caption
    assert figure.png(report).startswith(b"\x89PNG")


def ids(report):
    return {finding.id for finding in findings(report)}


def qam_of(tau):
    """QAM with a tau that is an array: one program serves all of them."""
    return eqx.tree_at(
        lambda a: a.policy.inverse_temperature.tau, agent_of("qam"), jnp.asarray(tau)
    )


def found_in(agent):
    return ids(inspect(run_of(agent), (), 3, 4, 0))


def test_what_is_wrong_has_a_name():
    sound = qam_of(2.0)
    assert "unchanged" in found_in(sound.start_from(sound.policy.clone))
    assert "tilt-weak" in found_in(qam_of(1e-4))
    assert {"tilt-strong", "not-matched"} <= found_in(qam_of(1e5))
    raised = eqx.tree_at(
        lambda a: a.critic.critic.copy.value.members.head.bias,
        sound,
        replace_fn=lambda bias: bias + 1e3,
    )
    assert "values-impossible" in found_in(raised)
    assert not {"unchanged", "tilt-weak", "tilt-strong", "values-impossible"} & found_in(sound)


def test_numbers_that_are_not_finite_are_named():
    broken = eqx.tree_at(
        lambda a: a.policy.velocity.mlp.head.bias,
        qam_of(2.0),
        replace_fn=lambda bias: bias.at[0].set(jnp.nan),
    )
    report = inspect(run_of(broken), (), 3, 4, 0)
    assert findings(report)[0].id == "not-finite"
    assert ".policy.velocity.mlp.head.bias" in findings(report)[0].found
    assert [figure.name for figure in page_figures(report)] == ["training"]
    json.dumps(to_json(report), allow_nan=False)


# --- the command ---


class Kept(eqx.Module):
    """What a checkpoint holds the agent in."""

    state: eqx.Module


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run's folder as a run leaves it, of an agent that was never trained; data beside it."""
    root = tmp_path_factory.mktemp("inspected")
    data = root / f"{NAME}-v0.npz"
    np.savez(data, **walk(0))
    small = ("actor_hidden=[8]", "critic_hidden=[8]", "flow_steps=3", "pessimism=0.5")
    changes = [*(f"agent.{change}" for change in small), f"data.directory={root}"]
    experiment = load(QUICKSTART, [*changes, "data.generate_episodes="])
    directory = root / "run"
    directory.mkdir()
    (directory / "config.toml").write_text(experiment.to_toml())
    stamp(directory, experiment, [data], continued=False)
    agent = build_agent(experiment.agent, 2, 2, KEY)
    checkpoints = Checkpoints(directory / "checkpoints")
    state = create_state(agent, adam(1e-3, 1.0), KEY)
    checkpoints.save(20, eqx.filter(Kept(state), eqx.is_array), {})
    checkpoints.wait()
    checkpoints.close()
    for file, rows in (("metrics", METRICS), ("evaluations", [{"step": 20, "success": 0.5}])):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (directory / f"{file}.jsonl").write_text(lines + '{"step": 3')  # a row that is written
    return directory


def look(directory, *options):
    return main(["inspect", str(directory), "--states", "4", "--samples", "4", *options])


def contents(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *directory.rglob("*")]
    }


def test_a_run_is_looked_at_while_it_is_held_and_left_as_it_is(run_folder, tmp_path, capsys):
    with locked(run_folder):
        before = contents(run_folder)
        file, out = tmp_path / "numbers.json", tmp_path / "page"
        assert look(run_folder, "--html", "--out", str(out), "--json", str(file)) == 0
        assert contents(run_folder) == before
    said = capsys.readouterr().out
    assert "qam on pointmaze-medium-navigate task1" in said
    assert "step 20 (online)" in said
    assert "success 50% at step 20" in said
    found = json.loads(file.read_text())
    assert found["step"] == 20
    assert np.shape(found["stages"][1]["actions"]) == (4, 4, 10)
    assert np.shape(found["paths"]["adjoints"]["norms"]) == (4, 4, 4)
    page = (out / "index.html").read_text()
    assert page.count("<img") == len(list(out.glob("*.png"))) == 6
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*|url\((?!#)|@import""", page)


@pytest.fixture(scope="module")
def run(run_folder):
    return load_run(run_folder)


def test_states_can_be_chosen(run, tmp_path):
    seen, saved = walk(0)["observations"], tmp_path / "states.npz"
    rows = select_states(run, ["394", "7"], 4, 0)
    assert rows.names == ("row 394", "row 7")
    np.testing.assert_array_equal(rows.observations[1], seen[7])
    assert rows.actions is not None
    np.testing.assert_array_equal(rows.actions[1], walk(0)["actions"][7:12].ravel())
    np.savez(saved, observations=seen[:3])
    np.testing.assert_array_equal(select_states(run, [str(saved)], 4, 0).observations, seen[:3])
    resets = select_states(run, ["resets"], 2, 0)
    env = run.open_environment()
    np.testing.assert_array_equal(
        resets.observations[1], env.reset(derived_seed(run.experiment.seed, 1, 1))
    )
    env.close()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("398", "no whole chunk begins at row 398"),
        ("first", '--state: found "first"'),
        ("none.npz", "none.npz: cannot be read"),
    ],
)
def test_states_that_are_not_there(run, where, says):
    with pytest.raises(UserError, match=re.escape(says)):
        select_states(run, [where], 4, 0)


def test_states_of_another_size(run, tmp_path):
    np.savez(tmp_path / "wide.npz", observations=np.zeros((3, 5)))
    with pytest.raises(UserError, match=re.escape("shape (3, 5); write (states, 2)")):
        select_states(run, [str(tmp_path / "wide.npz")], 4, 0)


def test_states_of_a_damaged_file(run, tmp_path):
    names = ("whole.npz", "cut.npz", "plain.npz", "empty.npz", "spoilt.npz")
    whole, cut, plain, empty, spoilt = (tmp_path / name for name in names)
    np.savez(whole, observations=np.array([[0, 0], [np.nan, 0]]))
    cut.write_bytes(whole.read_bytes()[:-30])
    empty.touch()
    np.savez_compressed(spoilt, observations=np.random.default_rng(0).normal(size=(300, 2)))
    packed = bytearray(spoilt.read_bytes())
    packed[200:300] = b"\xff" * 100
    spoilt.write_bytes(packed)
    with plain.open("wb") as file:
        np.save(file, np.zeros((3, 2)))
    for path, says in (
        (whole, "row 1 has entries that are not finite"),
        (cut, "cannot be read"),
        (plain, "cannot be read"),
        (empty, "cannot be read"),
        (spoilt, "cannot be read"),
    ):
        with pytest.raises(UserError, match=f"{path.name}: {says}"):
            select_states(run, [str(path)], 4, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seed", "-1"), "--seed: found -1"),
        (("--states", "0"), "--states: found 0"),
        (("--samples", "1"), "--samples: found 1"),
        (("--out", "x"), "--out: there are no figures"),
    ],
)
def test_wrong_options_are_named(run_folder, capsys, options, says):
    assert look(run_folder, *options) == 2
    assert says in capsys.readouterr().err


def test_without_data_or_checkpoint(run_folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    passport = json.loads((copy / "passport.json").read_text())
    passport["data"][0]["file"] = str(tmp_path / "gone.npz")
    (copy / "passport.json").write_text(json.dumps(passport))
    assert look(copy) == 0
    assert "absent      data actions and returns" in capsys.readouterr().out
    assert look(copy, "--state", "7") == 2
    assert "try resets" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    evidence = copy / "nonfinite" / "step-9"
    evidence.mkdir(parents=True)
    report = {"step": 9, "update": 9, "not_finite": ["critic/loss"]}
    (evidence / "report.json").write_text(json.dumps(report))
    assert look(copy) == 2
    assert "no checkpoint yet" in (said := capsys.readouterr().err)
    assert "update 9 brought critic/loss" in said
    assert look(tmp_path) == 2
    assert "no run (it has no config.toml)" in capsys.readouterr().err


def test_figures_without_matplotlib_name_the_extra(run_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert look(run_folder, "--html") == 2
    assert 'pip install -e ".[plot]"' in capsys.readouterr().err

"""Every method solves the probe problem."""

import functools

import jax
import pytest
from probe import dataset, make_parts, right_choices, windows_of

import qamx
from qamx import registry
from qamx.data.replay import Replay
from qamx.schedules import Constant
from qamx.training.state import Trainer

pytestmark = pytest.mark.usefixtures("optimised")

# A strength at which each method leaves the behaviour.
METHODS = {
    "qam": functools.partial(qamx.QAM, inverse_temperature=Constant(10.0)),
    "qam_fql": functools.partial(
        qamx.QAMFQL, inverse_temperature=Constant(5.0), distill_weight=1.0
    ),
    "qam_edit": functools.partial(
        qamx.QAMEdit,
        inverse_temperature=Constant(10.0),
        edit_scale=0.1,
        target_entropy_scale=0.5,
    ),
    "trqam": functools.partial(qamx.TRQAM, kl_budget=2.0, kl_scale=3.0),
    "trqam_edit": functools.partial(qamx.TRQAMEdit, edit_scale=0.1, kl_budget=2.0),
    "preflow": functools.partial(qamx.PReFlow, inverse_temperature=10.0, refinement_scale=0.5),
    "bam": functools.partial(qamx.BAM, inverse_temperature=30.0),
    "fbrac": functools.partial(qamx.FBRAC, bc_weight=0.3),
    "fql": functools.partial(qamx.FQL, bc_weight=0.3),
    "fedit": functools.partial(qamx.FEdit, edit_scale=1.0, target_entropy_scale=0.5),
    "fawac": functools.partial(qamx.FAWAC, inverse_temperature=10.0, value_target="td"),
    "cgql": functools.partial(qamx.CGQL, inverse_temperature=30.0, guidance_scale=0.1),
    "cgql_mse": functools.partial(
        qamx.CGQLMSE, inverse_temperature=30.0, guidance_scale=0.3, noisy_critic_weight=1.0
    ),
    "cgql_linex": functools.partial(
        qamx.CGQLLinex, inverse_temperature=30.0, guidance_scale=0.1, noisy_critic_weight=0.001
    ),
    "qsm": functools.partial(
        qamx.QSM, inverse_temperature=10.0, bc_weight=1.0, diffusion_steps=10, sampler="ddpm"
    ),
    "dac": functools.partial(qamx.DAC, bc_weight=0.1, diffusion_steps=10),
    "dsrl": functools.partial(qamx.DSRL, noise_scale=1.5, target_entropy_scale=0.5),
    "ifql": functools.partial(qamx.IFQL, expectile=0.9, best_of_n=32),
    "qgf": functools.partial(qamx.QGF, expectile=0.9, guidance_strength=1.0),
    "rebrac": functools.partial(
        qamx.ReBRAC, bc_weight=0.1, actor_noise=0.1, policy_delay=2, delayed="actor"
    ),
    "rlpd": functools.partial(qamx.RLPD, bc_weight=0.03, target_entropy_scale=0.5),
    "rql": functools.partial(qamx.RQL, bc_weight=0.03, expectile=0.9, actor_target_rate=0.001),
}
CLIPPED = ("qam", "qam_fql", "qam_edit", "trqam", "trqam_edit", "preflow", "bam", "qsm", "dac")
# Flow steps, batch size and updates: those of most methods, and of those that need more.
FEW, MANY = (5, 64, 1_000), (10, 128, 2_000)
SLOW = (
    "trqam",
    "trqam_edit",
    "cgql_mse",
    "cgql_linex",
    "qsm",
    "dac",
    "dsrl",
    "ifql",
    "qgf",
    "rebrac",
    "rlpd",
    "rql",
)


@pytest.fixture(scope="module")
def replay():
    return Replay.create(dataset(), 0)


def trained(name, replay, updates=None):
    flow_steps, batch_size, enough = MANY if name in SLOW else FEW
    agent_key, update_key, batch_key = jax.random.split(jax.random.key(0), 3)
    optimiser = qamx.adam(3e-3, 1.0 if name in CLIPPED else None)
    state = qamx.create_state(
        METHODS[name](make_parts(flow_steps), key=agent_key), optimiser, update_key
    )
    trainer = Trainer(state, optimiser, windows_of(batch_size))
    training = trainer.run(trainer.begin(state, replay, batch_key), replay, updates or enough)
    return trainer._combine(training.state).agent


def test_the_behaviour_solves_neither_step(replay):
    agent = trained("qam", replay, 500)
    clone = qamx.Agent(agent.critic, agent.policy.base)
    for share in right_choices(clone, jax.random.key(1)):
        assert 0.35 < share < 0.65


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_both_steps(name, replay):
    first, second = right_choices(trained(name, replay), jax.random.key(1))
    assert first > 0.9
    assert second > 0.9


def test_every_registered_method_is_here():
    assert set(METHODS) == {entry.name for entry in registry.agents}

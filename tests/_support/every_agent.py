"""Small agents of every method."""

import functools

import jax

import qamx
from qamx import Backup, Integrator, Networks, Parts
from qamx.schedules import Constant

OBS, ACT, HORIZON = 5, 2, 3
PARTS = Parts(
    Networks(OBS, ACT * HORIZON, (16, 16), (16, 16), ensemble_size=2),
    Backup(0.99, HORIZON, 0.5),
    Integrator(4),
    target_rate=0.005,
)
KEY = jax.random.key(0)
TAU = Constant(2.0)
GUIDED = {"inverse_temperature": 2.0, "guidance_scale": 0.1}
METHODS = {
    "qam": functools.partial(qamx.QAM, PARTS, inverse_temperature=TAU),
    "qam_fql": functools.partial(qamx.QAMFQL, PARTS, inverse_temperature=TAU, distill_weight=3.0),
    "qam_edit": functools.partial(
        qamx.QAMEdit, PARTS, inverse_temperature=TAU, edit_scale=0.2, target_entropy_scale=0.5
    ),
    "trqam": functools.partial(qamx.TRQAM, PARTS, kl_budget=1.0, kl_scale=3.0),
    "trqam_edit": functools.partial(qamx.TRQAMEdit, PARTS, edit_scale=0.2, kl_budget=1.0),
    "preflow": functools.partial(
        qamx.PReFlow, PARTS, inverse_temperature=2.0, refinement_scale=0.2, proposals=3
    ),
    "bam": functools.partial(qamx.BAM, PARTS, inverse_temperature=2.0),
    "fbrac": functools.partial(qamx.FBRAC, PARTS, bc_weight=3.0),
    "fql": functools.partial(qamx.FQL, PARTS, bc_weight=3.0),
    "fedit": functools.partial(qamx.FEdit, PARTS, edit_scale=0.2, target_entropy_scale=0.5),
    "fawac": functools.partial(qamx.FAWAC, PARTS, inverse_temperature=2.0, value_target="td"),
    "cgql": functools.partial(qamx.CGQL, PARTS, **GUIDED),
    "cgql_mse": functools.partial(qamx.CGQLMSE, PARTS, **GUIDED, noisy_critic_weight=0.1),
    "cgql_linex": functools.partial(qamx.CGQLLinex, PARTS, **GUIDED, noisy_critic_weight=0.1),
    "qsm": functools.partial(
        qamx.QSM, PARTS, inverse_temperature=2.0, bc_weight=3.0, diffusion_steps=10, sampler="ddpm"
    ),
    "dac": functools.partial(qamx.DAC, PARTS, bc_weight=3.0, diffusion_steps=10),
    "dsrl": functools.partial(qamx.DSRL, PARTS, noise_scale=1.0, target_entropy_scale=0.5),
    "ifql": functools.partial(qamx.IFQL, PARTS, expectile=0.9, best_of_n=4),
    "qgf": functools.partial(qamx.QGF, PARTS, expectile=0.9),
    "rebrac": functools.partial(
        qamx.ReBRAC, PARTS, bc_weight=0.1, actor_noise=0.1, policy_delay=2, delayed="actor"
    ),
    "rlpd": functools.partial(qamx.RLPD, PARTS, bc_weight=0.1, target_entropy_scale=0.5),
    "rql": functools.partial(
        qamx.RQL, PARTS, bc_weight=3.0, expectile=0.7, actor_target_rate=0.001
    ),
}


@functools.cache
def agent_of(method):
    """The agent, made when it is first asked for."""
    return METHODS[method](key=KEY)

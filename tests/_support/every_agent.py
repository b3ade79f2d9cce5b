"""Small agents of every method."""

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
AGENTS = {
    "qam": qamx.QAM(PARTS, inverse_temperature=TAU, key=KEY),
    "qam_fql": qamx.QAMFQL(PARTS, inverse_temperature=TAU, distill_weight=3.0, key=KEY),
    "qam_edit": qamx.QAMEdit(
        PARTS, inverse_temperature=TAU, edit_scale=0.2, target_entropy_scale=0.5, key=KEY
    ),
    "trqam": qamx.TRQAM(PARTS, kl_budget=1.0, kl_scale=3.0, key=KEY),
    "bam": qamx.BAM(PARTS, inverse_temperature=2.0, key=KEY),
    "fbrac": qamx.FBRAC(PARTS, bc_weight=3.0, key=KEY),
    "fql": qamx.FQL(PARTS, bc_weight=3.0, key=KEY),
    "fedit": qamx.FEdit(PARTS, edit_scale=0.2, target_entropy_scale=0.5, key=KEY),
    "fawac": qamx.FAWAC(PARTS, inverse_temperature=2.0, value_target="td", key=KEY),
    "cgql": qamx.CGQL(PARTS, **GUIDED, key=KEY),
    "cgql_mse": qamx.CGQLMSE(PARTS, **GUIDED, noisy_critic_weight=0.1, key=KEY),
    "cgql_linex": qamx.CGQLLinex(PARTS, **GUIDED, noisy_critic_weight=0.1, key=KEY),
    "qsm": qamx.QSM(
        PARTS, inverse_temperature=2.0, bc_weight=3.0, diffusion_steps=10, sampler="ddpm", key=KEY
    ),
    "dac": qamx.DAC(PARTS, bc_weight=3.0, diffusion_steps=10, key=KEY),
    "dsrl": qamx.DSRL(PARTS, noise_scale=1.0, target_entropy_scale=0.5, key=KEY),
    "ifql": qamx.IFQL(PARTS, expectile=0.9, best_of_n=4, key=KEY),
    "rebrac": qamx.ReBRAC(
        PARTS, bc_weight=0.1, actor_noise=0.1, policy_delay=2, delayed="actor", key=KEY
    ),
    "rlpd": qamx.RLPD(PARTS, bc_weight=0.1, target_entropy_scale=0.5, key=KEY),
    "rql": qamx.RQL(PARTS, bc_weight=3.0, expectile=0.7, actor_target_rate=0.001, key=KEY),
}

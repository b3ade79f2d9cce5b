"""Puts methods together that the library does not have, from parts that it has."""

import equinox as eqx
import jax
import jax.numpy as jnp
from build_and_update import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, make_batch

import qamx
from qamx.policies import BestOfN
from qamx.schedules import Constant
from qamx.training.state import flatten


# --8<-- [start:edited]
def edited_dsrl(parts: qamx.Parts, key: jax.Array) -> qamx.Agent:
    """DSRL steers the noise of the flow; an edit corrects the action that comes out."""
    dsrl_key, edit_key = jax.random.split(key)
    dsrl = qamx.DSRL(parts, noise_scale=1.0, target_entropy_scale=0.5, key=dsrl_key)
    return qamx.Agent(dsrl.critic, parts.edit(dsrl.policy, 0.1, 0.5, edit_key))


# --8<-- [end:edited]


# --8<-- [start:best]
def edited_best(parts: qamx.Parts, key: jax.Array) -> qamx.Agent:
    """The best of eight chunks of an adjoint-matched flow, and an edit of that one alone."""
    critic_key, flow_key, edit_key = jax.random.split(key, 3)
    flow = parts.adjoint_matched_flow(Constant(3.0), flow_key)
    policy = parts.edit(BestOfN(flow, draws=8), 0.1, 0.5, edit_key)
    return qamx.Agent(parts.temporal_difference(critic_key), policy)


# --8<-- [end:best]


def chain(policy: object) -> str:
    """A policy and those it is built on."""
    base = getattr(policy, "base", None)
    return type(policy).__name__ + ("" if base is None else f" over {chain(base)}")


def main() -> None:
    dim = HORIZON * ACTION_SIZE
    networks = qamx.Networks(OBSERVATION_SIZE, dim, (64, 64), (64, 64), ensemble_size=2)
    backup = qamx.Backup(0.99, HORIZON, 0.5)
    parts = qamx.Parts(networks, backup, qamx.Integrator(steps=5), target_rate=0.005)
    agent_key, batch_key, update_key = jax.random.split(jax.random.key(0), 3)
    batch, optimiser = make_batch(batch_key), qamx.adam(3e-4)
    for compose in (edited_dsrl, edited_best):
        agent = compose(parts, agent_key)
        state = qamx.create_state(agent, optimiser, update_key)
        _, metrics = eqx.filter_jit(qamx.update)(state, batch, optimiser)
        loss = flatten(metrics)["update/loss"]
        print(f"{chain(agent.policy)}: update/loss {loss:.3f}")
        assert jnp.isfinite(loss)


if __name__ == "__main__":
    main()

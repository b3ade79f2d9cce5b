"""Gives QAM's critic a Huber loss in the place of the squared one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from build_and_update import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, make_batch

import qamx
from qamx.nn import AbstractCritic
from qamx.rl import AbstractCriticLearning, Actor, WithTarget
from qamx.schedules import Constant
from qamx.training.state import flatten


# --8<-- [start:loss]
class HuberMetrics(qamx.Metrics):
    """The loss, and the share of errors in its linear part; logged as `huber/...`."""

    loss: jax.Array
    linear_share: jax.Array


class HuberTD(AbstractCriticLearning[Actor]):
    """TD on action chunks; errors beyond `delta` count linearly."""

    critic: WithTarget[AbstractCritic]
    backup: qamx.Backup
    delta: float

    def loss(
        self, batch: qamx.Batch, policy: Actor, key: jax.Array
    ) -> tuple[jax.Array, tuple[qamx.Metrics, ...]]:
        target = self.td_target(self.backup, batch, policy, key)
        error = self.online(batch.observations, batch.actions) - target
        loss = jnp.mean(batch.valid * optax.huber_loss(error, delta=self.delta))
        return loss, (HuberMetrics(loss, jnp.mean(jnp.abs(error) > self.delta)),)


# --8<-- [end:loss]


def main() -> None:
    agent_key, batch_key, update_key = jax.random.split(jax.random.key(0), 3)
    dim = HORIZON * ACTION_SIZE
    networks = qamx.Networks(OBSERVATION_SIZE, dim, (64, 64), (64, 64), ensemble_size=2)
    # --8<-- [start:agent]
    backup = qamx.Backup(0.99, HORIZON, 0.5)
    parts = qamx.Parts(networks, backup, qamx.Integrator(steps=5), target_rate=0.005)
    critic_key, policy_key = jax.random.split(agent_key)
    critic = WithTarget(networks.critic(critic_key), parts.target_rate)
    agent = qamx.Agent(
        critic=HuberTD(critic, parts.backup, delta=1.0),
        policy=parts.adjoint_matched_flow(Constant(3.0), policy_key),
    )
    # --8<-- [end:agent]
    batch = make_batch(batch_key)
    batch = eqx.tree_at(lambda b: b.rewards, batch, batch.rewards.at[0].set(-1e3))  # an outlier
    optimiser = qamx.adam(3e-4, gradient_clip=1.0)
    state = qamx.create_state(agent, optimiser, update_key)
    _, metrics = eqx.filter_jit(qamx.update)(state, batch, optimiser)
    values = {name: float(value) for name, value in flatten(metrics).items()}
    print({name: round(value, 3) for name, value in values.items() if name.startswith("huber")})
    assert values["huber/loss"] < 50.0  # the squared error of that row alone is about 30,000


if __name__ == "__main__":
    main()

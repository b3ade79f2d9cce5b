"""A method of its own: an adjoint-matched flow on a critic that is never asked about a'."""

import equinox as eqx
import jax
from build_and_update import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, make_batch

import qamx
from qamx import AbstractAgent, Parts
from qamx.policies import AdjointMatchedFlow
from qamx.rl import ImplicitQLearning
from qamx.runner.metrics import flatten
from qamx.schedules import AbstractInverseTemperature, Constant


# --8<-- [start:agent]
class ImplicitQAM(AbstractAgent[ImplicitQLearning, AdjointMatchedFlow]):
    """Implicit Q-learning x adjoint-matched flow."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: AbstractInverseTemperature,
        expectile: float = 0.9,
        key: jax.Array,
    ):
        critic_key, value_key, flow_key = jax.random.split(key, 3)
        self.critic = ImplicitQLearning(
            parts.with_target(parts.networks.critic(critic_key)),
            parts.networks.value(value_key),
            parts.backup,
            expectile,
        )
        self.policy = parts.adjoint_matched_flow(inverse_temperature, flow_key)


# --8<-- [end:agent]


def main() -> None:
    dim = HORIZON * ACTION_SIZE
    networks = qamx.Networks(OBSERVATION_SIZE, dim, (64, 64), (64, 64), ensemble_size=2)
    parts = qamx.Parts(networks, qamx.Backup(0.99, HORIZON, 0.5), qamx.Integrator(steps=5))
    agent_key, batch_key, update_key = jax.random.split(jax.random.key(0), 3)
    agent = ImplicitQAM(parts, inverse_temperature=Constant(3.0), key=agent_key)
    optimiser = qamx.adam(3e-4, gradient_clip=1.0)
    state = qamx.create_state(agent, optimiser, update_key)
    _, metrics = eqx.filter_jit(qamx.update)(state, make_batch(batch_key), optimiser)
    losses = [f"{k} {v:.3f}" for k, v in flatten(metrics).items() if k.endswith("/loss")]
    print("\n".join(losses))
    assert len(losses) == 5  # update, critic, state value, behaviour flow, adjoint matching


if __name__ == "__main__":
    main()

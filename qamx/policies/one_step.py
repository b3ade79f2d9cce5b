"""A one-step policy, distilled from a flow and improved by the critic."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import MLP
from qamx.policies.base import (
    AbstractDerivedFlow,
    AbstractFlowPolicy,
    Critic,
    PolicyStage,
    clip_action,
    mean_value,
)
from qamx.rl import frozen


class OneStepMetrics(Metrics):
    """The distance to the flow (before its weight) and the value term."""

    distill_loss: Scalar
    q_loss: Scalar


class OneStepPolicy(AbstractDerivedFlow):
    r"""A map mu(s, z) distilled from a flow's transport of the same noise, maximising the critic.

    $$w\,\mathbb{E}\,\tfrac1d\lVert\mu(s, z) - \mathrm{flow}(s, z)\rVert^2
      - \mathbb{E}\,\mathrm{mean}_k Q_k(s, \mathrm{clip}\,\mu(s, z))$$

    **Arguments:** `base` is the distilled flow (frozen here, trained by its own loss),
    `network` maps [s, z] to a chunk, `distill_weight` is w.

    **Raises:** `ValueError` if the weight is not positive.

    **Source:** FQL (Park et al., arXiv 2502.02538) over a behaviour flow; QAM-FQL (Li and Levine,
    arXiv 2601.14234) over an adjoint-matched flow.
    """

    base: AbstractFlowPolicy
    network: MLP
    distill_weight: float

    def __check_init__(self):
        if not self.distill_weight > 0.0:
            raise ValueError(
                f"the distillation weight is positive; found {self.distill_weight}. A one-step "
                "policy that follows no flow is not defined: use the flow policy itself"
            )

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return clip_action(self._map(observation, noise))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [*self.base.stages(critic), self.own_stage("one-step policy", critic)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        flow_key, noise_key = jax.random.split(key)
        flow_loss, metrics = self.base.loss(critic, batch, flow_key)
        noise = self.noise(batch.observations, noise_key)
        followed = frozen(self.base).transport(batch.observations, noise)
        action = self._map(batch.observations, noise)
        distill = jnp.mean((action - followed) ** 2)
        q_loss = -mean_value(critic.online, batch.observations, action)
        loss = flow_loss + self.distill_weight * distill + q_loss
        return loss, (*metrics, OneStepMetrics(distill, q_loss))

    def _map(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return self.network(jnp.concatenate([observation, noise], axis=-1))

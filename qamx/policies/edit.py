"""A Gaussian policy that edits another policy's actions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import GaussianActor
from qamx.policies.base import (
    AbstractDerivedPolicy,
    AbstractPolicy,
    Critic,
    PolicyStage,
    clip_action,
    mean_value,
)
from qamx.rl import EntropyTarget, frozen


class EditMetrics(Metrics):
    """The three terms of an edit policy, its entropy (nats) and temperature."""

    q_loss: Scalar
    entropy_loss: Scalar
    temperature_loss: Scalar
    entropy: Scalar
    temperature: Scalar


class EditPolicy(AbstractDerivedPolicy):
    r"""Samples a~ from a policy and acts with clip(a~ + c e), e ~ pi_e(.|[s, a~]) tanh-Gaussian.

    $$-\mathbb{E}\,\mathrm{mean}_k Q_k(s, \mathrm{clip}(\tilde a + c\,e))
      + \alpha\,\mathbb{E}\log\pi_e(e) + \alpha\,\mathrm{sg}(H - H^*)$$

    (sg(alpha) in the second term.) The edited policy is frozen here and trained by its own loss.

    **Arguments:** `base` is the edited policy, `actor` the distribution of edits, `entropy` its
    target and temperature, `scale` c, the largest edit of an entry.

    **Raises:** `ValueError` if the scale is not positive.

    **Source:** EXPO (Dong et al., arXiv 2507.07986); FEdit over a behaviour flow and QAM-EDIT
    over an adjoint-matched one (Li and Levine, arXiv 2601.14234).
    """

    base: AbstractPolicy
    actor: GaussianActor
    entropy: EntropyTarget
    scale: float

    def __check_init__(self):
        if not self.scale > 0.0:
            raise ValueError(
                f"the edit scale is positive; found {self.scale}. "
                "For no edits use the edited policy itself"
            )

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        policy_key, edit_key = jax.random.split(key)
        action = self.base.sample(critic, observation, policy_key)
        edited, _ = self._edit(observation, action, edit_key)
        return clip_action(edited)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [*self.base.stages(critic), self.own_stage("edited", critic)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        policy_key, action_key, edit_key = jax.random.split(key, 3)
        policy_loss, metrics = self.base.loss(critic, batch, policy_key)
        action = frozen(self.base).sample(critic, batch.observations, action_key)
        edited, log_prob = self._edit(batch.observations, action, edit_key)
        q_loss = -mean_value(critic.online, batch.observations, edited)
        entropy_loss, temperature_loss, entropy = self.entropy.losses(log_prob)
        loss = policy_loss + q_loss + entropy_loss + temperature_loss
        alpha = self.entropy.temperature()
        own = EditMetrics(q_loss, entropy_loss, temperature_loss, entropy, alpha)
        return loss, (*metrics, own)

    def _edit(
        self, observation: Float[Array, "batch obs"], action: Float[Array, "batch dim"], key: Key
    ) -> tuple[Float[Array, "batch dim"], Float[Array, " batch"]]:
        """The edited action (not clipped) and the log density of the edit e."""
        law = self.actor(jnp.concatenate([observation, action], axis=-1))
        noise = jax.random.normal(key, action.shape)
        edit, log_prob = law.sample_and_log_prob(noise)
        return action + self.scale * edit, log_prob

"""Entropy-regularised policies: the target entropy and the temperature's loss."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Scalar
from qamx.nn import Temperature


class EntropyTarget(eqx.Module):
    r"""Keeps a policy's entropy H near H* by a learned temperature alpha.

    The policy's term is \(-\mathrm{sg}(\alpha)H\) and the temperature's
    \(\alpha\,\mathrm{sg}(H-H^*)\), with \(H = -\mathbb{E}\log\pi\).

    **Arguments:** `target` is H* in nats; H* = -0.5 d is the usual choice for d action entries.

    **Source:** Haarnoja et al., arXiv 1812.05905, section 5.
    """

    temperature: Temperature
    target: float

    def losses(self, log_prob: Float[Array, " batch"]) -> tuple[Scalar, Scalar, Scalar]:
        """The policy's term, the temperature's loss, and the entropy."""
        alpha = self.temperature()
        entropy = -jnp.mean(log_prob)
        policy_term = -jax.lax.stop_gradient(alpha) * entropy
        temperature_loss = alpha * jax.lax.stop_gradient(entropy - self.target)
        return policy_term, temperature_loss, entropy

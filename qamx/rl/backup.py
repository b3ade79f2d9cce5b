"""The pessimistic n-step backup over action chunks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Scalar
from qamx._utils.defaults import PESSIMISM


def pessimistic_value(
    values: Float[Array, "ensemble *batch"], pessimism: float
) -> Float[Array, "*batch"]:
    r"""\(\mathrm{mean}_k Q_k - \rho\,\mathrm{std}_k Q_k\), the deviation over the ensemble with
    ddof 0 (Ghasemipour et al., arXiv 2205.13703)."""
    variance = jnp.var(values, axis=0)
    # The root has no derivative where all critics agree bitwise: return 0 there, not NaN.
    agree = variance == 0.0
    deviation = jnp.where(agree, 0.0, jnp.sqrt(jnp.where(agree, 1.0, variance)))
    return jnp.mean(values, axis=0) - pessimism * deviation


class Backup(eqx.Module):
    r"""The chunked n-step target
    \(R + \gamma^H m\,(\mathrm{mean}_k - \rho\,\mathrm{std}_k)\bar Q_k(s', a')\).

    **Arguments:** `discount` is gamma per environment step, `horizon` the chunk length H,
    `pessimism` rho.

    **Raises:** `ValueError` for a discount outside [0, 1], a horizon below 1, or a negative rho.

    **Source:** Li et al., Q-chunking, arXiv 2507.07969; Li and Levine, arXiv 2601.14234.
    """

    discount: float
    horizon: int = eqx.field(static=True)
    pessimism: float = PESSIMISM

    def __check_init__(self):
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"the discount is in [0, 1]; found {self.discount}, try 0.99")
        if self.horizon < 1:
            raise ValueError(f"the horizon is at least 1 step; found {self.horizon}")
        if self.pessimism < 0.0:
            raise ValueError(f"the pessimism is at least 0; found {self.pessimism}, try 0.5")

    def target(
        self, batch: Batch, next_values: Float[Array, "ensemble batch"]
    ) -> Float[Array, " batch"]:
        """The regression target, without gradient; `next_values` are the target critics' at s'."""
        bootstrap = pessimistic_value(next_values, self.pessimism)
        target = batch.rewards + self.discount**self.horizon * batch.masks * bootstrap
        return jax.lax.stop_gradient(target)


def td_loss(
    values: Float[Array, "ensemble batch"],
    target: Float[Array, " batch"],
    valid: Float[Array, " batch"],
) -> Scalar:
    """Mean over ensemble and batch of valid (Q_k - target)^2."""
    return jnp.mean(valid * (values - target) ** 2)


def expectile_loss(error: Float[Array, "*shape"], expectile: float) -> Float[Array, "*shape"]:
    r"""\(|\kappa-\mathbb 1(u<0)|\,u^2\) of the errors u = target - prediction; the minimiser is
    the mean for kappa = 1/2, and approaches the largest target as kappa approaches 1.

    **Source:** Kostrikov et al., arXiv 2110.06169, eq. 5.
    """
    return jnp.where(error < 0, 1.0 - expectile, expectile) * error**2

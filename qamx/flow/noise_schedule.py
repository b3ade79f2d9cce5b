"""The memoryless noise schedule."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class MemorylessSchedule(eqx.Module):
    r"""The diffusion that makes the start and the end of the SDE independent.

    In continuous time \(\sigma_t = \sqrt{2(1-t)/t}\); on a grid of step h, time is shifted by h
    where it divides, \(\sigma_t = \sqrt{2(1-t+h)/(t+h)}\), so that t = 0 is finite.

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, section 4 and appendix H.
    """

    step_size: float = eqx.field(static=True)

    def sigma(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The diffusion coefficient at flow time `t`."""
        h = self.step_size
        return jnp.sqrt(2.0 * (1.0 - t + h) / (t + h))

"""What is exact at noised actions: values, scores and noise, in closed form.

x = r a + c z with a from a mixture and z ~ N(0, I) has a mixture's law, and given x the action a
has another one.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qamx.policies import VariancePreserving
from studies.mixture import Mixture


class NoisedMixture(eqx.Module):
    """A mixture in the plane as arrays, and its laws under noise."""

    log_weights: Array
    means: Array
    covariances: Array

    def __init__(self, law: Mixture):
        self.log_weights = jnp.asarray(np.log(law.weights), jnp.float32)
        self.means = jnp.asarray(law.means, jnp.float32)
        self.covariances = jnp.asarray(law.covariances, jnp.float32)

    def log_density(
        self, x: Float[Array, "*batch dim"], rate: Array, noise: Array
    ) -> Float[Array, "*batch"]:
        """The log density of rate a + noise z at `x`, up to a constant."""
        return jax.nn.logsumexp(self._log_joint(x, rate, noise), axis=-1)

    def expected_quadratic(
        self, x: Float[Array, "*batch dim"], rate: Array, noise: Array, linear: Array, c: Array
    ) -> Float[Array, "*batch"]:
        """E[b.a + a.C.a / 2 | rate a + noise z = x]."""
        gain = rate * self.covariances @ self._precisions(rate, noise)
        centred = x[..., None, :] - rate * self.means
        mean = self.means + jnp.einsum("ide,...ie->...id", gain, centred)
        covariance = self.covariances - rate * gain @ self.covariances
        second = 0.5 * jnp.einsum("...id,de,...ie->...i", mean, c, mean)
        values = mean @ linear + second + 0.5 * jnp.einsum("ide,de->i", covariance, c)
        return jnp.sum(jax.nn.softmax(self._log_joint(x, rate, noise)) * values, axis=-1)

    def _precisions(self, rate: Array, noise: Array) -> Array:
        return jnp.linalg.inv(rate**2 * self.covariances + noise**2 * jnp.eye(2))

    def _log_joint(self, x: Array, rate: Array, noise: Array) -> Array:
        precisions = self._precisions(rate, noise)
        centred = x[..., None, :] - rate * self.means
        distance = jnp.einsum("...id,ide,...ie->...i", centred, precisions, centred)
        log_det = jnp.linalg.slogdet(precisions)[1]
        return self.log_weights + 0.5 * log_det - 0.5 * distance


class CleanValue(eqx.Module):
    """Q of a noised action as if it were clean, the same at all flow times."""

    linear: Array
    quadratic: Array

    def __call__(self, observation: Array, point: Array) -> Array:
        x = point[..., :-1]
        return (x @ self.linear + 0.5 * jnp.sum(x @ self.quadratic * x, axis=-1))[None]


class MeanValue(eqx.Module):
    """E[Q(a) | x_t] of the behaviour, to which the squared error leads a critic.

    One flow time for all rows.
    """

    law: NoisedMixture
    linear: Array
    quadratic: Array

    def __call__(self, observation: Array, point: Array) -> Array:
        x, t = point[..., :-1], jnp.ravel(point[..., -1])[0]
        return self.law.expected_quadratic(x, t, 1.0 - t, self.linear, self.quadratic)[None]


class SoftMaximum(eqx.Module):
    r"""\(\tau^{-1}\log\mathbb E[e^{\tau Q(a)}|x_t]\) of the behaviour, to which the LINEX loss
    leads a critic: the quotient of the noised laws of the tilted mixture and the behaviour.

    One flow time for all rows.
    """

    behaviour: NoisedMixture
    tilted: NoisedMixture
    tau: float

    def __call__(self, observation: Array, point: Array) -> Array:
        x, t = point[..., :-1], jnp.ravel(point[..., -1])[0]
        logs = [law.log_density(x, t, 1.0 - t) for law in (self.tilted, self.behaviour)]
        return ((logs[0] - logs[1]) / self.tau)[None]


class ExactNoise(eqx.Module):
    r"""\(\mathbb E[z|x_k]\), what a noise predictor without an error says of a mixture; the same
    plus `shrink` and `push` is the minimiser of QSM's and of DAC's loss.

    $$\epsilon = s\,\mathbb E[z|x_k] - (p_0+p_1\sqrt{1-\bar\alpha_k})\,\nabla Q(x_k)$$

    One step k for all rows.
    """

    law: NoisedMixture
    schedule: VariancePreserving
    linear: Array
    quadratic: Array
    shrink: float = 1.0
    push: tuple[float, float] = (0.0, 0.0)

    def __call__(self, observation: Array, x: Array, step: Array) -> Array:
        bar = self.schedule.alpha_bars[step[0].astype(int)]
        rate, noise = jnp.sqrt(bar), jnp.sqrt(1.0 - bar)
        score = jax.grad(lambda x: jnp.sum(self.law.log_density(x, rate, noise)))(x)
        ascent = self.linear + x @ self.quadratic
        return -self.shrink * noise * score - (self.push[0] + self.push[1] * noise) * ascent

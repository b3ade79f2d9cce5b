"""Gaussian mixtures, whose flows and exponential tilts are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from qamx.nn import AbstractCritic, AbstractVelocityField


class Mixture:
    """sum_i w_i N(mu_i, S_i)."""

    def __init__(self, weights, means, covariances):
        self.weights = np.asarray(weights, float) / np.sum(weights)
        self.means = np.asarray(means, float)
        self.covariances = np.asarray(covariances, float)

    def tilted(self, linear, quadratic):
        """The law proportional to this one times exp(b.x + x.C.x / 2), again a mixture."""
        weights, means, covariances = [], [], []
        for w, mu, cov in zip(self.weights, self.means, self.covariances, strict=True):
            precision = np.linalg.inv(cov)
            new_cov = np.linalg.inv(precision - quadratic)
            new_mean = new_cov @ (precision @ mu + linear)
            exponent = 0.5 * (new_mean @ np.linalg.inv(new_cov) @ new_mean - mu @ precision @ mu)
            log_det = 0.5 * (np.linalg.slogdet(new_cov)[1] - np.linalg.slogdet(cov)[1])
            weights.append(w * np.exp(exponent + log_det))
            means.append(new_mean)
            covariances.append(new_cov)
        return Mixture(weights, means, covariances)

    def log_normaliser(self, linear, quadratic):
        """log E exp(b.x + x.C.x / 2)."""
        tilted = self.tilted(linear, quadratic)
        # The quotient of the densities is exp(b.x + x.C.x / 2) over the normaliser: look at x = 0.
        origin = np.zeros((1, self.means.shape[1]))
        return float(self.log_density(origin)[0] - tilted.log_density(origin)[0])

    def log_density(self, x):
        """The log density at each row of `x`."""
        return np.logaddexp.reduce(self._log_joint(x), axis=0)

    def noised(self, scale, deviation):
        """The law of scale x + deviation z, z ~ N(0, I)."""
        noise = deviation**2 * np.eye(self.means.shape[1])
        return Mixture(self.weights, scale * self.means, scale**2 * self.covariances + noise)

    def sample(self, rng, n):
        """`n` draws and the component of each."""
        labels = rng.choice(len(self.weights), n, p=self.weights)
        factors = np.linalg.cholesky(self.covariances)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return self.means[labels] + np.einsum("nij,nj->ni", factors[labels], noise), labels

    def nearest(self, x):
        """The component that each point most probably came from."""
        return np.argmax(self._log_joint(x), axis=0)

    def _log_joint(self, x):
        """log w_i + log N(x; mu_i, S_i), a row for each component."""
        log = []
        for w, mu, cov in zip(self.weights, self.means, self.covariances, strict=True):
            d = x - mu
            quad = np.einsum("ni,ij,nj->n", d, np.linalg.inv(cov), d)
            log_det = np.linalg.slogdet(2.0 * np.pi * cov)[1]
            log.append(np.log(w) - 0.5 * quad - 0.5 * log_det)
        return np.array(log)


class MixtureVelocity(AbstractVelocityField):
    r"""The exact velocity of straight lines from N(0, I) to a mixture in the plane.

    Given component i, x_t ~ N(t mu, P) with P = (1-t)^2 I + t^2 S, and
    E[x_1 - x_0 | x_t] = mu + (t S - (1-t) I) P^{-1} (x_t - t mu); components are weighed by
    their posterior. The parameters may be trained: the velocity of a tilted mixture is another
    of this family.
    """

    log_weights: jax.Array
    means: jax.Array
    log_variances: jax.Array
    angles: jax.Array

    def __init__(self, mixture):
        variances, axes = np.linalg.eigh(mixture.covariances)
        self.log_weights = jnp.asarray(np.log(mixture.weights), jnp.float32)
        self.means = jnp.asarray(mixture.means, jnp.float32)
        self.log_variances = jnp.asarray(np.log(variances), jnp.float32)
        self.angles = jnp.asarray(np.arctan2(axes[:, 1, 0], axes[:, 0, 0]), jnp.float32)

    def __call__(self, observation, x, t):
        t = jnp.broadcast_to(t, x.shape[:-1])[..., None, None]
        cos, sin = jnp.cos(self.angles), jnp.sin(self.angles)
        # Principal axes: columns of a rotation. Along them all matrices are diagonal.
        axes = jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -1)
        variances = jnp.exp(self.log_variances)
        centred = jnp.einsum("...id,ide->...ie", x[..., None, :] - t * self.means, axes)
        spread = (1 - t) ** 2 + t**2 * variances
        whitened = centred / spread
        log = self.log_weights - 0.5 * jnp.sum(centred * whitened + jnp.log(spread), axis=-1)
        along = (t * variances - (1 - t)) * whitened
        velocities = self.means + jnp.einsum("...ie,ide->...id", along, axes)
        return jnp.sum(jax.nn.softmax(log)[..., None] * velocities, axis=-2)


class QuadraticCritic(AbstractCritic):
    """Q_k(s, a) = b.a + a.C.a / 2 for two critics that differ by a constant."""

    linear: jax.Array
    quadratic: jax.Array

    def __call__(self, observation, action):
        value = action @ self.linear + 0.5 * jnp.sum(action @ self.quadratic * action, axis=-1)
        return jnp.stack([value, value + 1.0])

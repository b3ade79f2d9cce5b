"""Diffusion policies: a noise predictor, its reverse process, and two ways to tilt it by Q."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow.integrator import scan_steps
from qamx.nn import NoisePredictor
from qamx.policies.base import AbstractPolicy, Critic, PolicyStage, clip_action, row_gradient


class VariancePreserving(eqx.Module):
    r"""The variance-preserving noise schedule of a diffusion of N steps.

    $$\alpha_k=\exp\big(-b_{min}/N-(b_{max}-b_{min})(2k-1)/2N^2\big),\qquad k=1,\dots,N$$

    **Source:** Song et al., arXiv 2011.13456; discretised as by Xiao et al., arXiv 2112.07804.
    """

    steps: int = eqx.field(static=True)
    b_min: float = eqx.field(static=True, default=0.1)
    b_max: float = eqx.field(static=True, default=10.0)

    @property
    def alphas(self) -> Float[Array, " steps+1"]:
        """alpha_0 = 1, alpha_1, ..., alpha_N."""
        return jnp.asarray(self._alphas, jnp.float32)

    @property
    def alpha_bars(self) -> Float[Array, " steps+1"]:
        """The products of alpha_0 to alpha_k."""
        return jnp.asarray(np.cumprod(self._alphas), jnp.float32)

    @property
    def _alphas(self) -> Float[np.ndarray, " steps+1"]:
        # Computed on the host, to be the same in every program: XLA has several forms of a
        # running product, and an exported program may use a different one.
        k, n = np.arange(1, self.steps + 1), self.steps
        exponent = self.b_min / n + 0.5 * (self.b_max - self.b_min) * (2 * k - 1) / n**2
        return np.concatenate([np.ones(1), np.exp(-exponent)])


ReverseStep = Callable[[Array, Array, Array, Array, Array, Array], Array]
"""x_{k-1} from x_k, the predicted noise, scaled fresh noise, alpha_k, abar_k and abar_{k-1}."""


def clipped_step(
    x: Array, eps: Array, noise: Array, alpha: Array, bar: Array, bar_before: Array
) -> Array:
    """The standard step, clipped (Ho et al., arXiv 2006.11239, algorithm 2)."""
    return clip_action((x - (1.0 - alpha) / jnp.sqrt(1.0 - bar) * eps) / jnp.sqrt(alpha) + noise)


def clean_step(
    x: Array, eps: Array, noise: Array, alpha: Array, bar: Array, bar_before: Array
) -> Array:
    """A jump to the predicted clean action, clipped with its noise (the release's QSM)."""
    return clip_action((x - jnp.sqrt(1.0 - bar) * eps) / jnp.sqrt(bar) + noise)


def posterior_step(
    x: Array, eps: Array, noise: Array, alpha: Array, bar: Array, bar_before: Array
) -> Array:
    """The posterior's mean given the predicted clean action, clipped (Ho et al., eq. 7)."""
    clean = clip_action((x - jnp.sqrt(1.0 - bar) * eps) / jnp.sqrt(bar))
    of_clean = jnp.sqrt(bar_before) * (1.0 - alpha) / (1.0 - bar)
    of_noised = jnp.sqrt(alpha) * (1.0 - bar_before) / (1.0 - bar)
    return of_clean * clean + of_noised * x + noise


class DiffusionMetrics(Metrics):
    """The noise-prediction loss and the critic's term, before their weights."""

    cloning_loss: Scalar
    critic_loss: Scalar


class AbstractDiffusionPolicy(AbstractPolicy):
    """A noise predictor that clones the data and follows the critic's gradient.

    It is trained on the data's chunks, and by the gradient at noised ones; it acts by its reverse
    process.
    """

    predictor: eqx.AbstractVar[NoisePredictor]
    schedule: eqx.AbstractVar[VariancePreserving]
    reverse_step: eqx.AbstractVar[ReverseStep]
    bc_weight: eqx.AbstractVar[float]
    dim: eqx.AbstractVar[int]

    @abstractmethod
    def critic_term(
        self,
        predicted: Float[Array, "batch dim"],
        ascent: Float[Array, "batch dim"],
        alpha_bar: Float[Array, "batch 1"],
    ) -> Float[Array, "batch dim"]:
        """The critic's loss term for each entry; `ascent` is grad_x mean_k Qbar_k."""

    @property
    def behaviour(self) -> None:
        return None

    @property
    def clone(self) -> NoisePredictor:
        return self.predictor

    def start_from(self, clone: NoisePredictor) -> Self:
        return eqx.tree_at(lambda policy: policy.predictor, self, clone)

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        shape = observation.shape[0], self.dim
        alphas, bars = self.schedule.alphas, self.schedule.alpha_bars
        start_key, path_key = jax.random.split(key)

        def step(x: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
            k, noise = now
            eps = self.predictor(observation, x, jnp.full(shape[:1], k, jnp.float32))
            scale = jnp.where(k > 1, jnp.sqrt(1.0 - alphas[k]), 0.0)
            return self.reverse_step(x, eps, scale * noise, alphas[k], bars[k], bars[k - 1]), None

        steps = jnp.arange(self.schedule.steps, 0, -1)
        keys = jax.random.split(path_key, len(steps))
        noises = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        x, _ = scan_steps(step, jax.random.normal(start_key, shape), (steps, noises))
        return clip_action(x)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [self.own_stage("diffusion policy", critic)]

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        noise, predicted, _, _ = self._predictions(batch, key)
        loss = _weighed(batch, (noise - predicted) ** 2)
        return loss, (DiffusionMetrics(loss, jnp.zeros(())),)

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        noise, predicted, x_k, alpha_bar = self._predictions(batch, key)
        ascent = row_gradient(lambda x: critic.target(batch.observations, x), x_k)
        cloning = _weighed(batch, (noise - predicted) ** 2)
        term = _weighed(batch, self.critic_term(predicted, ascent, alpha_bar))
        return self.bc_weight * cloning + term, (DiffusionMetrics(cloning, term),)

    def _predictions(self, batch: Batch, key: Key) -> tuple[Array, Array, Array, Array]:
        """z, eps(s, x_k, k), x_k = sqrt(abar_k) a + sqrt(1 - abar_k) z, abar_k; k is uniform."""
        step_key, noise_key = jax.random.split(key)
        k: Int[Array, " batch"] = jax.random.randint(
            step_key, batch.valid.shape, 1, self.schedule.steps + 1
        )
        noise = jax.random.normal(noise_key, batch.actions.shape)
        alpha_bar = self.schedule.alpha_bars[k][:, None]
        x_k = jnp.sqrt(alpha_bar) * batch.actions + jnp.sqrt(1.0 - alpha_bar) * noise
        predicted = self.predictor(batch.observations, x_k, k.astype(jnp.float32))
        return noise, predicted, x_k, alpha_bar


def _weighed(batch: Batch, terms: Float[Array, "batch dim"]) -> Scalar:
    return jnp.mean(batch.valid * jnp.mean(terms, axis=-1))


class ScoreMatchedDiffusion(AbstractDiffusionPolicy):
    r"""The noise predictor as the score of \(\exp(\tau Q)\), at noised actions too.

    $$c\,\lVert z-\epsilon\rVert^2+\lVert-\tau\nabla_x\bar Q(s, x_k)-\epsilon\rVert^2$$

    **Arguments:** `inverse_temperature` is tau, `bc_weight` c, `reverse_step` a `ReverseStep`.

    **Source:** QSM (Psenka et al., arXiv 2312.11752), with the cloning term of Li and Levine,
    arXiv 2601.14234.
    """

    predictor: NoisePredictor
    schedule: VariancePreserving
    reverse_step: ReverseStep = eqx.field(static=True)
    bc_weight: float
    dim: int = eqx.field(static=True)
    inverse_temperature: float

    def critic_term(
        self,
        predicted: Float[Array, "batch dim"],
        ascent: Float[Array, "batch dim"],
        alpha_bar: Float[Array, "batch 1"],
    ) -> Float[Array, "batch dim"]:
        return (-self.inverse_temperature * ascent - predicted) ** 2


class CriticGuidedDiffusion(AbstractDiffusionPolicy):
    r"""The noise predictor pushed along the critic's gradient.

    $$c\,\lVert z-\epsilon\rVert^2+\sqrt{1-\bar\alpha_k}\,\nabla_x\bar Q(s, x_k)\cdot\epsilon$$

    **Arguments:** `bc_weight` is c, `reverse_step` a `ReverseStep`.

    **Source:** DAC (Fang et al., arXiv 2405.20555).
    """

    predictor: NoisePredictor
    schedule: VariancePreserving
    reverse_step: ReverseStep = eqx.field(static=True)
    bc_weight: float
    dim: int = eqx.field(static=True)

    def critic_term(
        self,
        predicted: Float[Array, "batch dim"],
        ascent: Float[Array, "batch dim"],
        alpha_bar: Float[Array, "batch 1"],
    ) -> Float[Array, "batch dim"]:
        return jnp.sqrt(1.0 - alpha_bar) * ascent * predicted

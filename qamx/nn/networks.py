"""The sizes of a method's networks, in one place."""

from collections.abc import Sequence
from dataclasses import dataclass

from qamx._types import Key
from qamx._utils.checks import check_positive_integers
from qamx._utils.defaults import ACTOR_LAYER_NORM, CRITIC_LAYER_NORM, ENSEMBLE_SIZE, HIDDEN
from qamx.nn.actors import DeterministicActor, GaussianActor
from qamx.nn.critic import EnsembleCritic, FlowTimeCritic
from qamx.nn.fields import NoisePredictor, VelocityField
from qamx.nn.mlp import MLP


@dataclass(frozen=True)
class Networks:
    """Builds the networks of a method from the sizes of its problem.

    **Arguments:**

    - `observation_size`: entries of an observation.
    - `action_dim`: entries of a flat action chunk, horizon x action size.
    - `actor_hidden`, `critic_hidden`: hidden widths.
    - `ensemble_size`: number of critics, K.
    - `actor_layer_norm`: layer norms in velocities, noise predictors, one-step and deterministic
      policies.
    - `critic_layer_norm`: layer norms in critics.

    **Raises:** `ValueError` for a size that is not a positive integer.
    """

    observation_size: int
    action_dim: int
    actor_hidden: tuple[int, ...] = HIDDEN
    critic_hidden: tuple[int, ...] = HIDDEN
    ensemble_size: int = ENSEMBLE_SIZE
    actor_layer_norm: bool = ACTOR_LAYER_NORM
    critic_layer_norm: bool = CRITIC_LAYER_NORM

    def __post_init__(self):
        sizes = ("observation_size", "action_dim", "ensemble_size")
        check_positive_integers(**{name: getattr(self, name) for name in sizes})
        for name in ("actor_hidden", "critic_hidden"):
            widths = getattr(self, name)
            if not isinstance(widths, Sequence) or not widths:
                raise ValueError(f"{name}: found {widths!r}; write layer widths, e.g. (512, 512)")
            check_positive_integers(**{f"{name}[{i}]": width for i, width in enumerate(widths)})

    def critic(self, key: Key) -> EnsembleCritic:
        """K action values on [s, a]."""
        return self._ensemble(self.action_dim, key)

    def flow_time_critic(self, key: Key) -> FlowTimeCritic:
        """K values on [s, x, t]."""
        return FlowTimeCritic(self._ensemble(self.action_dim + 1, key))

    def value(self, key: Key) -> MLP:
        """A state value with the critics' widths."""
        return MLP(
            self.observation_size,
            self.critic_hidden,
            1,
            layer_norm=self.critic_layer_norm,
            key=key,
        )

    def velocity(self, key: Key) -> VelocityField:
        """A velocity on [s, x, t]."""
        return self._field(self.observation_size, key)

    def refinement(self, key: Key) -> VelocityField:
        """A velocity on [s, a, y, t]."""
        return self._field(self.observation_size + self.action_dim, key)

    def noise_predictor(self, key: Key) -> NoisePredictor:
        """A noise predictor on [x, s, k]."""
        return NoisePredictor(
            self.observation_size,
            self.action_dim,
            self.actor_hidden,
            layer_norm=self.actor_layer_norm,
            key=key,
        )

    def one_step(self, key: Key) -> MLP:
        """A map from [s, noise] to an action chunk."""
        return MLP(
            self.observation_size + self.action_dim,
            self.actor_hidden,
            self.action_dim,
            layer_norm=self.actor_layer_norm,
            key=key,
        )

    def deterministic(self, key: Key) -> DeterministicActor:
        """A map from [s] to an action chunk."""
        return DeterministicActor(
            self.observation_size,
            self.action_dim,
            self.actor_hidden,
            layer_norm=self.actor_layer_norm,
            key=key,
        )

    def gaussian(self, key: Key) -> GaussianActor:
        """A squashed Gaussian over chunks on [s], without layer norms."""
        return GaussianActor(self.observation_size, self.action_dim, self.actor_hidden, key=key)

    def edit(self, key: Key) -> GaussianActor:
        """A squashed Gaussian over edits on [s, a~], without layer norms."""
        return GaussianActor(
            self.observation_size + self.action_dim, self.action_dim, self.actor_hidden, key=key
        )

    def _field(self, context_size: int, key: Key) -> VelocityField:
        return VelocityField(
            context_size,
            self.action_dim,
            self.actor_hidden,
            layer_norm=self.actor_layer_norm,
            key=key,
        )

    def _ensemble(self, action_size: int, key: Key) -> EnsembleCritic:
        return EnsembleCritic(
            self.observation_size,
            action_size,
            self.critic_hidden,
            ensemble_size=self.ensemble_size,
            layer_norm=self.critic_layer_norm,
            key=key,
        )

# pyright: reportMissingImports=false
"""LeRobot's configuration of an exported policy."""

from dataclasses import dataclass, field

from lerobot.configs.policies import PreTrainedConfig

from qamx.errors import UserError


@PreTrainedConfig.register_subclass("qamx")
@dataclass
class QamxConfig(PreTrainedConfig):
    """LeRobot's settings of an exported policy.

    **Arguments:** `observation_keys` are the features that make the observation, joined in this
    order; `n_action_steps` of a chunk are played (None: all); `seed` is that of the draws.
    """

    observation_keys: list[str] = field(default_factory=lambda: ["observation.state"])
    n_action_steps: int | None = None
    seed: int = 0

    observation_delta_indices = action_delta_indices = reward_delta_indices = None
    """No other steps: only the present observation is used, and qamx trains the policy."""

    def get_optimizer_preset(self):
        """Refused: LeRobot does not train this policy.

        **Raises:** `UserError` that says what does.
        """
        raise UserError("LeRobot plays this policy, qamx trains it: qamx run, then qamx export")

    def get_scheduler_preset(self) -> None:
        """None: LeRobot does not train this policy."""
        return None

    def validate_features(self) -> None:
        """The sizes are compared when the policy is loaded."""

# pyright: reportMissingImports=false
"""An exported policy with LeRobot's interface."""

import shutil
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy

from qamx.deploy.lerobot.configuration_qamx import QamxConfig
from qamx.deploy.lerobot.processor_qamx import make_qamx_pre_post_processors
from qamx.deploy.loading import ChunkPolicy, load_policy
from qamx.deploy.metadata import FILE_NAME, Metadata, read_metadata
from qamx.errors import UserError


class QamxPolicy(PreTrainedPolicy):
    """An exported policy that LeRobot can run, on a robot or in its environments.

    Observations and actions are in the units of the data that the policy was trained on:
    normalisation is part of the export, and LeRobot's is not used.
    """

    config_class = QamxConfig
    name = "qamx"

    def __init__(self, config: QamxConfig, policy: ChunkPolicy, folder: Path):
        super().__init__(config)
        self.policy, self.folder = policy, folder
        horizon = policy.metadata.horizon
        self.steps = horizon if config.n_action_steps is None else config.n_action_steps
        if not 1 <= self.steps <= horizon:
            raise ValueError(
                f"n_action_steps: found {self.steps}; write an integer from 1 to {horizon}"
            )
        self.episode = -1
        self.reset()

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: QamxConfig | None = None, **kwargs: Any
    ) -> "QamxPolicy":
        """The policy in a folder that `qamx export` or `save_pretrained` wrote.

        **Arguments:** `kwargs` are settings of `QamxConfig`, if no `config` is given.
        """
        folder = Path(pretrained_name_or_path)
        policy = load_policy(folder)
        if config is None:
            known = QamxConfig.__dataclass_fields__
            own = {name: value for name, value in kwargs.items() if name in known}
            config = QamxConfig(**{**_defaults(policy.metadata), **own})
        return cls(config, policy, folder).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        self.config._save_pretrained(save_directory)
        for processor in make_qamx_pre_post_processors(self.config):
            processor.save_pretrained(save_directory)
        if not save_directory.samefile(self.folder):
            for name in (FILE_NAME, *read_metadata(self.folder).files):
                shutil.copy2(self.folder / name, save_directory / name)

    def reset(self) -> None:
        """Begins an episode with new draws."""
        self.episode += 1
        self.calls = 0
        self.waiting: deque[torch.Tensor] = deque()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """Chunks [batch, horizon, act] for a batch of observations."""
        if missing := [key for key in self.config.observation_keys if key not in batch]:
            raise KeyError(
                f"{', '.join(missing)}: not in the batch (which has {', '.join(sorted(batch))}); "
                "name the features of an observation with observation_keys"
            )
        parts = [batch[key].detach().cpu().numpy() for key in self.config.observation_keys]
        observations = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        chunks = self.policy.act(observations, self.config.seed + self.episode, self.calls)
        self.calls += 1
        return torch.from_numpy(np.array(chunks)).to(batch[self.config.observation_keys[0]].device)

    @torch.no_grad()
    def select_action(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """The actions [batch, act] of this step."""
        if not self.waiting:
            chunks = self.predict_action_chunk(batch)
            self.waiting.extend(chunks[:, : self.steps].unbind(1))
        return self.waiting.popleft()

    def get_optim_params(self) -> dict:
        """Nothing: qamx trains its policies."""
        return {}

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict | None]:
        """Refused: LeRobot does not train this policy.

        **Raises:** `UserError` that says what does.
        """
        raise UserError("LeRobot plays this policy, qamx trains it: qamx run, then qamx export")


def _defaults(metadata: Metadata) -> dict[str, Any]:
    state = PolicyFeature(type=FeatureType.STATE, shape=(metadata.observation_size,))
    action = PolicyFeature(type=FeatureType.ACTION, shape=(metadata.action_size,))
    return {
        "input_features": {"observation.state": state},
        "output_features": {"action": action},
        "device": "cpu",
        "push_to_hub": False,
    }

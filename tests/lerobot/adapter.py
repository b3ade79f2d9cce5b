# pyright: reportMissingImports=false
"""An exported policy in LeRobot itself, in an environment without qamx's training dependencies.

python tests/lerobot/adapter.py BUNDLE
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.parser import load_plugin
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from qamx.deploy import load_policy


def main(bundle: str) -> None:
    """Loads as LeRobot does, compares actions, saves, and loads again."""
    assert importlib.util.find_spec("equinox") is None, "qamx's training code must not be needed"
    load_plugin("qamx.deploy.lerobot")
    policy_class = get_policy_class("qamx")
    policy = policy_class.from_pretrained(bundle, seed=7)
    with np.load(Path(bundle) / "golden.npz") as golden:
        observations = golden["observations"]
    expected = load_policy(bundle).act(observations, seed=7)
    horizon = expected.shape[1]

    before, after = make_pre_post_processors(policy.config)
    batch = {"observation.state": torch.from_numpy(observations)}
    chosen = [after(policy.select_action(before(batch))) for _ in range(horizon)]
    assert np.array_equal(torch.stack(chosen, 1).numpy(), expected)
    following = policy.select_action(before(batch)).numpy()
    assert not np.array_equal(following, expected[:, 0]), "the next chunk draws anew"
    policy.reset()
    assert policy.predict_action_chunk(before(batch)).shape == expected.shape

    one = {"observation.state": torch.from_numpy(observations[0])}
    policy.reset()
    assert policy.select_action(before(one)).shape == (1, expected.shape[-1])

    with tempfile.TemporaryDirectory() as folder:
        policy.save_pretrained(folder)
        config = PreTrainedConfig.from_pretrained(folder)
        again = policy_class.from_pretrained(folder, config=config)
        again.config.seed = 7
        assert np.array_equal(again.predict_action_chunk(batch).numpy(), expected)
        # As lerobot-eval and lerobot-record load what --policy.path names.
        config.pretrained_path = Path(folder)
        before, after = make_pre_post_processors(config, pretrained_path=folder)
        assert after(again.select_action(before(one))).shape == (1, expected.shape[-1])
        again.save_pretrained(folder)  # in its own place
    print(f"LeRobot plays the policy: {len(observations)} observations, bitwise")


if __name__ == "__main__":
    main(sys.argv[1])

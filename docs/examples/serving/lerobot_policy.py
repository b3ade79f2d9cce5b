# pyright: reportMissingImports=false
"""An exported policy as LeRobot's: python lerobot_policy.py BUNDLE"""

import sys

import torch

from qamx.deploy.lerobot import QamxPolicy

policy = QamxPolicy.from_pretrained(sys.argv[1], n_action_steps=2)
size = policy.policy.metadata.observation_size
policy.reset()
for _ in range(4):
    action = policy.select_action({"observation.state": torch.zeros(1, size)})
    print([round(entry, 3) for entry in action[0].tolist()])
policy.save_pretrained("my_policy")  # LeRobot's layout, with its config.json

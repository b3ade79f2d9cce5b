"""An exported policy as a policy of LeRobot's (version 0.4 or later).

Its files are named as LeRobot's plugins are, so that LeRobot's own commands find the parts:
`lerobot-eval --policy.discover_packages_path=qamx.deploy.lerobot --policy.path=FOLDER`, the folder
being one that `QamxPolicy.save_pretrained` wrote.
"""

from qamx.deploy.lerobot.configuration_qamx import QamxConfig
from qamx.deploy.lerobot.modeling_qamx import QamxPolicy
from qamx.deploy.lerobot.processor_qamx import make_qamx_pre_post_processors

__all__ = ["QamxConfig", "QamxPolicy", "make_qamx_pre_post_processors"]

"""Makes the small LeRobot data sets beside this file, with LeRobot's own library.

`python make_lerobot.py FOLDER` in an environment with `lerobot` 0.4 writes one of version 3, with
`lerobot` 0.3 one of version 2.1. Two episodes, of four and of three frames; every number tells
where it stands: 100 · episode + frame, plus tenths for the entry. Of what it writes, the tests
need `data` and `meta/info.json`.
"""

import importlib
import sys
from unittest.mock import MagicMock

import numpy as np

importlib.import_module("datasets")  # looks for torchvision when it is imported
sys.modules["torchvision"] = MagicMock()  # decodes images, of which there are none here
LeRobotDataset = importlib.import_module("lerobot.datasets.lerobot_dataset").LeRobotDataset

VERSION_3 = hasattr(LeRobotDataset, "finalize")
LENGTHS = (4, 3)
VECTORS = {"observation.state": 3, "observation.environment_state": 2, "action": 2}
FEATURES = {
    **{
        name: {"dtype": "float32", "shape": (size,), "names": [f"entry_{i}" for i in range(size)]}
        for name, size in VECTORS.items()
    },
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}


def frame_of(episode: int, index: int) -> dict[str, np.ndarray]:
    """Frame `index` of an episode; the first one ends in success, the second one is cut."""
    base, last = 100.0 * episode + index, index == LENGTHS[episode] - 1
    vectors = {
        name: (base + 0.1 * np.arange(size)).astype(np.float32) for name, size in VECTORS.items()
    }
    solved = np.array([last and episode == 0])
    return vectors | {
        "next.reward": np.array([-base], np.float32),
        "next.done": solved,
        "next.success": solved,
    }


def main(folder: str) -> None:
    """Writes the data set."""
    data = LeRobotDataset.create("qamx/counting", 10, FEATURES, root=folder, use_videos=False)
    for episode, length in enumerate(LENGTHS):
        for index in range(length):
            frame = frame_of(episode, index)
            if VERSION_3:
                data.add_frame(frame | {"task": "count"})
            else:
                data.add_frame(frame, task="count")
        data.save_episode()
    if VERSION_3:
        data.finalize()


if __name__ == "__main__":
    main(sys.argv[1])

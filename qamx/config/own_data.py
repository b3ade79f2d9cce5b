"""The settings of data of your own, whatever the format of its files."""

from typing import Literal

from pydantic import Field

from qamx.config.fields import Names, PositiveInt, Text
from qamx.config.sections import DataSettings


class EpisodicDataSettings(DataSettings):
    """What every format has: how its arrays become observations, rewards and ends."""

    observation_keys: Names | None = Field(None, examples=[["observation", "desired_goal"]])
    success: Text | None = Field(None, examples=["last"])
    terminal: Literal["data", "success", "never"] | None = Field(None, examples=["success"])


class MinariDataSettings(EpisodicDataSettings):
    """`source = "minari:D4RL/door/human-v2"`: a data set of Minari's, by its name."""


class NpzDataSettings(EpisodicDataSettings):
    """`source = "npz:FILE"` or `"npz:FOLDER"`, whose files are shards."""

    updates_per_shard: PositiveInt | None = Field(None, examples=[1000])


class HDF5DataSettings(EpisodicDataSettings):
    """`source = "hdf5:FILE"`: robomimic's layout or D4RL's, recognised by their groups."""

    filter: Text | None = Field(None, examples=["train"])


class LeRobotDataSettings(EpisodicDataSettings):
    """`source = "lerobot:FOLDER"`: a LeRobot data set of version 2 or 3 with its states."""

"""The settings of data of your own, whatever the format of its files."""

from typing import Annotated, Literal

from pydantic import Field

from qamx.config.experiment import DataSettings
from qamx.config.fields import Absent, Allowed, Names, PositiveInt, Text


class EpisodicDataSettings(DataSettings):
    """What every format has: how its arrays become observations, rewards and ends."""

    source: Annotated[
        str, Field(pattern=":."), Allowed("FORMAT:PLACE, e.g. npz:mine.npz"), Absent("")
    ] = Field(
        examples=["npz:mine.npz"],
        description="`npz:FILE`, `npz:FOLDER` (its files are shards), `hdf5:FILE`, `minari:NAME`, "
        "`lerobot:FOLDER`",
    )
    observation_keys: Annotated[
        Names | None, Absent("the environment's, else all, in alphabetical order")
    ] = Field(
        default=None,
        examples=[["observation", "desired_goal"]],
        description="the entries of dictionary observations, in the order of the vector; dotted "
        "where nested",
    )
    success: Annotated[
        Text | None, Absent("`success` or `is_success`; LeRobot: `next.success`")
    ] = Field(
        default=None,
        examples=["last"],
        description="the array (Minari: the entry of `infos`) that is positive where the task is "
        'solved; `"last"`: each episode solves it in its last step',
    )
    terminal: Annotated[
        Literal["data", "success", "never"] | None,
        Absent('`"data"`; `"success"` beside `terminate_at_success`'),
    ] = Field(
        default=None,
        examples=["success"],
        description="where nothing is bootstrapped: where the data says that the task ended, where "
        "it is solved, or nowhere",
    )


class MinariDataSettings(EpisodicDataSettings):
    """`source = "minari:D4RL/door/human-v2"`: a data set of Minari's, by its name."""


class NpzDataSettings(EpisodicDataSettings):
    """`source = "npz:FILE"` or `"npz:FOLDER"`, whose files are shards."""

    updates_per_shard: PositiveInt | None = Field(
        default=None,
        examples=[1000],
        description="updates on a file before the next takes its place; for a folder of several, "
        "and required there",
    )


class HDF5DataSettings(EpisodicDataSettings):
    """`source = "hdf5:FILE"`: robomimic's layout or D4RL's, recognised by their groups."""

    filter: Annotated[Text | None, Absent("all but `mask/valid`")] = Field(
        default=None,
        examples=["train"],
        description="learn from the demonstrations that robomimic's `mask/NAME` lists",
    )


class LeRobotDataSettings(EpisodicDataSettings):
    """`source = "lerobot:FOLDER"`: a LeRobot data set of version 2 or 3 with its states."""

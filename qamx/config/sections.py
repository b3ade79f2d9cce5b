"""The sections that every experiment has, and the base classes of those a name selects."""

from typing import Annotated, Literal

from pydantic import Field

from qamx.config.fields import (
    Allowed,
    Count,
    Modules,
    Name,
    Number,
    PositiveFloat,
    PositiveInt,
    Settings,
    Switch,
    Text,
)

Workers = Annotated[
    Count | Literal["auto"], Allowed('a number of processes, 0 for none, or "auto" for one a core')
]

DEFAULT_SCHEME = "ogbench"


def scheme_of(address: str) -> str:
    """The registered name in `scheme:name`; OGBench's where none is written."""
    scheme, colon, _ = address.partition(":")
    return scheme if colon else DEFAULT_SCHEME


def name_of(address: str) -> str:
    """What follows the scheme in `scheme:name`."""
    return address.removeprefix(f"{scheme_of(address)}:")


class GeneralSettings(Settings):
    """The keys above all sections."""

    name: Name
    seed: Count = 10001
    plugins: Modules = ()


class EnvironmentSettings(Settings):
    """Where the policy acts. Base class for the settings of an environment of your own."""

    id: Text = Field(examples=["cube-quadruple-play"])
    reward_scale: PositiveFloat = 1.0
    reward_shift: Number = 0.0

    @property
    def name(self) -> str:
        """The id without its scheme."""
        return name_of(self.id)

    @property
    def label(self) -> str:
        """What tells the runs of this environment apart in a folder's name; may be empty."""
        return ""

    @property
    def unit_actions(self) -> bool:
        """Whether actions are in [-1, 1]; if not, the environment has bounds of its own."""
        return True

    @property
    def observation_order(self) -> tuple[str, ...] | None:
        """The entries of dictionary observations that are used, if the file names them."""
        return None

    @property
    def sparse(self) -> bool:
        """Whether the reward is -1 until the task is solved, then 0."""
        return False

    @property
    def stops_at_success(self) -> bool:
        """Whether an episode ends where the task is solved."""
        return False

    @property
    def success_rule(self) -> str:
        """When an episode of an evaluation counts as solved, in words."""
        return 'info["success"] of an episode\'s last step'

    def default_source(self) -> str | None:
        """The data source that belongs to this environment, if there is one."""
        return None

    def objection(self, data: "DataSettings") -> str | None:
        """Why the data cannot be learned from for this environment, or None."""
        return None


class DataSettings(Settings):
    """What is learned from. Base class for the settings of a data source of your own."""

    source: Text = Field(examples=["ogbench:cube-quadruple-play-v0"])
    normalise_observations: Switch = False
    scale_actions: Literal["space", "data", "none"] = "space"

    @property
    def name(self) -> str:
        """The source without its scheme."""
        return name_of(self.source)


class ScheduleSettings(Settings):
    """The phases of a run. Base class for the settings of a schedule of your own."""

    kind: Text = Field(examples=["offline_to_online"])


class EvaluationSettings(Settings):
    """How often and how thoroughly the policy is tried out."""

    every: PositiveInt = 50_000
    episodes: PositiveInt = 50
    behaviour: Switch = False
    environments: PositiveInt = 10
    workers: Workers = "auto"


class CheckpointSettings(Settings):
    """How often the whole state is saved, and how many of the latest are kept."""

    every: PositiveInt = 50_000
    keep: PositiveInt = 2


class LoggingSettings(Settings):
    """How often metrics are written, and where else they go."""

    every: PositiveInt = 5_000
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    wandb_project: Text = "qamx"


class ComputeSettings(Settings):
    """How exact matrix products are, and how many updates go to the device together."""

    precision: Literal["tf32", "float32", "bfloat16"] = "tf32"
    updates_per_dispatch: Annotated[
        PositiveInt | Literal["auto"], Allowed('a positive integer, or "auto"')
    ] = "auto"

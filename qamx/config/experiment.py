"""An experiment and its sections."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from qamx._utils.defaults import check_seed
from qamx.config.agents import AgentSettings
from qamx.config.fields import (
    Allowed,
    Count,
    DefaultText,
    Modules,
    Name,
    Number,
    PositiveFloat,
    PositiveInt,
    Seed,
    Settings,
    Switch,
    Text,
)
from qamx.errors import UserError

Workers = Annotated[
    Count | Literal["auto"], Allowed('a number of processes, 0 for none, or "auto" for one a core')
]
PositiveOrAuto = Annotated[PositiveInt | Literal["auto"], Allowed('a positive integer, or "auto"')]

DEFAULT_SCHEME = "ogbench"

SEED_STEP = 10001
"""Difference of a group's seeds: the paper's are 10001, 20002, ..., 120012."""


def scheme_of(address: str) -> str:
    """The registered name in `scheme:name`; OGBench's where none is written."""
    scheme, colon, _ = address.partition(":")
    return scheme if colon else DEFAULT_SCHEME


def name_of(address: str) -> str:
    """The name in `scheme:name`."""
    return address.removeprefix(f"{scheme_of(address)}:")


class GeneralSettings(Settings):
    """The keys above all sections."""

    name: Annotated[Name, DefaultText("the file's name without `.toml`")]
    """the name of the run's folder and log entries"""
    seed: Seed = 10001
    """seed of networks, batches, noise and environments"""
    plugins: Modules = ()
    """modules imported before names are looked up"""


class EnvironmentSettings(Settings):
    """Keys of every environment. Base class for the settings of an environment of your own."""

    id: Text = Field(examples=["cube-quadruple-play"])
    """`scheme:name`; without a scheme, an OGBench name such as `cube-quadruple-play`"""
    reward_scale: PositiveFloat = 1.0
    """rewards are learned as `reward_scale` · r + `reward_shift`, in the data and online;
    evaluations report r"""
    reward_shift: Number = 0.0
    """added to a scaled reward"""

    label: ClassVar[str] = ""
    """The part of a run folder's name that stands for the environment."""
    unit_actions: ClassVar[bool] = True
    """True if actions are in [-1, 1], False if the environment has other bounds."""
    observation_order: ClassVar[tuple[str, ...] | None] = None
    """The entries of dictionary observations that are used, if the file names them."""
    sparse: ClassVar[bool] = False
    """True if the reward is -1 until the task is solved, then 0."""
    stops_at_success: ClassVar[bool] = False
    """True if an episode ends where the task is solved."""
    success_rule: ClassVar[str] = 'info["success"] of an episode\'s last step'
    """The condition, in words, under which an evaluation counts an episode as solved."""

    @property
    def name(self) -> str:
        """The id without its scheme."""
        return name_of(self.id)

    def default_source(self) -> str | None:
        """The data source that belongs to this environment, if there is one."""
        return None

    def objection(self, data: "DataSettings") -> str | None:
        """The reason why the data does not fit this environment, or None."""
        return None


class DataSettings(Settings):
    """Keys of every data source. Base class for the settings of a data source of your own."""

    source: Annotated[Text, DefaultText("the environment's own data, if there are any")] = Field(
        examples=["ogbench:cube-quadruple-play-v0"]
    )
    """`scheme:name`"""
    normalise_observations: Switch = False
    """observations get mean 0 and deviation 1 over the data (of shards, the first), but entries
    that hardly vary are not enlarged; kept in the run's folder as `scaling.json`"""
    scale_actions: Literal["space", "data", "none"] = "space"
    """the bounds that become ±1: those of the environment's actions, those that the data's actions
    reach, or none"""

    @property
    def name(self) -> str:
        """The source without its scheme."""
        return name_of(self.source)


class ScheduleSettings(Settings):
    """The phases of a run. Base class for the settings of a schedule of your own."""

    kind: Annotated[Text, DefaultText('`"offline_to_online"`')] = Field(
        examples=["offline_to_online"]
    )
    """the phases: `offline_to_online`, `offline`, `online`, `cloning`, or a plugin's"""


class EvaluationSettings(Settings):
    """Evaluation interval, episodes and processes."""

    every: PositiveInt = 50_000
    """steps between evaluations"""
    episodes: PositiveInt = 50
    """episodes of an evaluation"""
    behaviour: Switch = False
    """also evaluate the clone of the data; for methods that [keep
    one](methods.md#starting-from-a-clone)"""
    environments: PositiveInt = 10
    """episodes that are played at a time; half of them are one batch of the policy"""
    workers: Workers = "auto"
    """processes that hold these environments; training continues meanwhile. 0: in the run's own
    process, and training waits. What is measured is the same"""


class CheckpointSettings(Settings):
    """Checkpoint interval, and the number of checkpoints kept."""

    every: PositiveInt = 50_000
    """steps between checkpoints"""
    keep: PositiveInt = 2
    """checkpoints kept, the latest"""


class LoggingSettings(Settings):
    """Metrics interval, Weights & Biases and TensorBoard."""

    every: PositiveInt = 5_000
    """steps between rows of metrics"""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """log to Weights & Biases as well"""
    wandb_project: Text = "qamx"
    """its project"""
    tensorboard: Switch = False
    """write TensorBoard's event files as well, to `tensorboard/` in the run's folder"""


class ComputeSettings(Settings):
    """Precision of matrix products, devices, and how programs are compiled and run."""

    precision: Literal["tf32", "float32", "bfloat16"] = "tf32"
    """the type that the inputs of matrix products are rounded to, forward and backward; sums and
    parameters are float32. With bfloat16 a GPU keeps hidden layers' outputs in it too"""
    updates_per_dispatch: PositiveOrAuto = "auto"
    """updates that go to the device together; `auto`: as many as take a quarter of a second"""
    devices: PositiveOrAuto = "auto"
    """devices that seeds trained together are spread over, in equal parts; `auto`: all GPUs, or
    the cores of a CPU"""
    cache: Switch = True
    """keep compiled programs in the user's cache, so that later runs start at once"""


@dataclass(frozen=True)
class Experiment:
    """One run's whole configuration, every default filled in.

    `environment`, `data`, `agent` and `schedule` are of the settings class that the
    registry has for the name in the file.
    """

    name: str
    seed: int
    plugins: tuple[str, ...]
    environment: EnvironmentSettings
    data: DataSettings
    agent: AgentSettings
    schedule: ScheduleSettings
    evaluation: EvaluationSettings
    checkpoint: CheckpointSettings
    logging: LoggingSettings
    compute: ComputeSettings

    @property
    def run_name(self) -> str:
        """The name of this run's folder, such as `c4_qam-task2-seed10001`."""
        return "-".join(filter(None, (self.name, self.environment.label, f"seed{self.seed}")))

    @property
    def directory(self) -> Path:
        """The folder of this run, unless another is named."""
        return Path("runs") / self.run_name

    def with_seeds(self, number: int) -> "list[Experiment]":
        """This experiment with its own seed and `number - 1` that follow it.

        **Raises:** `UserError` for a number or a seed that cannot be.
        """
        if number < 1:
            raise UserError(f"--seeds: found {number}; write a positive integer, e.g. 4")
        seeds = [self.seed + SEED_STEP * index for index in range(number)]
        check_seed(f"--seeds {number}, the seed of the last run", seeds[-1])
        return [replace(self, seed=seed) for seed in seeds]

    def to_dict(self) -> dict[str, Any]:
        """The experiment as the tables of a file; keys without a value are left out."""
        tables = {
            name: value.model_dump(exclude_none=True) if isinstance(value, Settings) else value
            for name, value in vars(self).items()
        }
        return tables | {"plugins": list(self.plugins)}

    def to_toml(self) -> str:
        """A file that loads by itself to an equal experiment."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def differences(self, other: "Experiment") -> list[tuple[str, Any, Any]]:
        """The differing keys of two experiments: dotted key, this one's value, the other's.

        A key that an experiment does not have is None.
        """
        mine, theirs = flat(self.to_dict()), flat(other.to_dict())
        both = [(key, mine.get(key), theirs.get(key)) for key in mine | theirs]
        return [row for row in both if row[1] != row[2]]


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables inside tables as one table of dotted keys."""
    keys: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            keys |= flat(value, f"{prefix}{name}.")
        else:
            keys[prefix + name] = value
    return keys

"""Settings of data sets: OGBench's, data of your own in four formats, and random steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from qamx import registry
from qamx.config.experiment import DataSettings, EnvironmentSettings, name_of
from qamx.config.fields import Allowed, Count, DefaultText, Names, PositiveInt, Switch, Text
from qamx.config.messages import show, value_problem
from qamx.data.ogbench.catalogue import DOMAIN_OF, SHARDED
from qamx.errors import suggestion

if TYPE_CHECKING:
    from qamx.data.formats.episodes import EpisodeReader
    from qamx.data.source import DataSource


@registry.datasets.add("ogbench", "OGBench data sets, one file or a folder of shards")
class OGBenchDataSettings(DataSettings):
    """A data set of OGBench: one file, or a folder of shards taken in turn."""

    source: Annotated[Text, DefaultText("the environment's own set, `ogbench:ID-v0`")] = Field(
        examples=["ogbench:cube-quadruple-play-v0"]
    )
    """any data set of the same OGBench domain, so that `antmaze-large-navigate` may learn from
    `ogbench:antmaze-large-stitch-v0`. `-100m-` marks a folder of shards"""
    directory: Annotated[Text | None, DefaultText("`$QAMX_DATA`, else `~/.ogbench/data`")] = Field(
        default=None, examples=["data"]
    )
    """the folder of data sets; a set that is missing there is
    [downloaded](data.md#downloading-ogbenchs-sets)"""
    updates_per_shard: PositiveInt | None = Field(default=None, examples=[1000])
    """updates on a shard before the next takes its place; for a folder of shards, and required
    there"""
    shards: Annotated[PositiveInt | None, DefaultText("all that are there")] = Field(
        default=None, examples=[10]
    )
    """use the first N files of a folder of shards, by name, and download those that are missing;
    without this key, all are downloaded if there is no folder"""
    cache: Annotated[Switch | None, DefaultText("`true`")] = Field(default=None, examples=[False])
    """cache each shard, once it is read, as memory-mapped arrays in `.cache` next to the shards;
    see [Data in shards](performance.md#data-in-shards)"""
    generate_episodes: PositiveInt | None = Field(default=None, examples=[1000])
    """generate this many training episodes when the set is missing; ants and humanoids need their
    [expert](experts.md)"""
    generate_seed: Annotated[Count | None, DefaultText("`0`")] = Field(default=None, examples=[0])
    """seed of that generation; only with `generate_episodes`"""

    @property
    def domain(self) -> str:
        """The OGBench domain that the data comes from."""
        return DOMAIN_OF[self.environment]

    @property
    def environment(self) -> str:
        """The OGBench name of the environment that the data was made in."""
        return _environment_of(self.source)

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if not source.endswith("-v0") or _environment_of(source) not in DOMAIN_OF:
            known = [f"{name}{size}-v0" for name in DOMAIN_OF for size in ("", SHARDED)]
            raise value_problem(f"found {show(source)}; {suggestion(name_of(source), known)}")
        return source

    @field_validator("updates_per_shard", "shards", "cache", "generate_episodes")
    @classmethod
    def _fits_source(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Some keys are for a folder of shards alone; generated episodes are one file."""
        source, key = info.data.get("source"), info.field_name
        if source is None:  # a problem already
            return value
        found, sharded = f"found {show(value)}, but {show(source)}", f"{SHARDED}-" in source
        if value is None and sharded and key == "updates_per_shard":
            raise value_problem(
                f"missing, and {show(source)} is a folder of shards; "
                "write a positive integer, e.g. 1000"
            )
        if value is not None and sharded and key == "generate_episodes":
            raise value_problem(
                f"{found} is a folder of shards; leave it out and make the shards with qamx data "
                "generate"
            )
        if value is not None and not sharded and key != "generate_episodes":
            raise value_problem(
                f'{found} has no shards (a folder of them is named "...{SHARDED}-v0"); leave it out'
            )
        return value

    @field_validator("generate_seed")
    @classmethod
    def _has_use(cls, seed: int | None, info: ValidationInfo) -> int | None:
        if seed is not None and info.data.get("generate_episodes", seed) is None:
            raise value_problem(f"found {seed} without generate_episodes; write both or neither")
        return seed

    def build(self, environment: Any) -> "DataSource":
        """Find, generate or download the files, and relabel them for the environment's task."""
        from qamx.data.ogbench.dataset import OGBenchData, find_files

        files = find_files(
            self.name,
            None if self.directory is None else Path(self.directory),
            shards=self.shards,
            generate_episodes=self.generate_episodes,
            generate_seed=self.generate_seed or 0,
        )
        task = environment.name, environment.task, environment.reward
        cached = self.cache is not False and len(files) > 1
        return OGBenchData(*task, files, self.updates_per_shard, cached=cached)


def _environment_of(source: str) -> str:
    return name_of(source).removesuffix("-v0").removesuffix(SHARDED)


class EpisodicDataSettings(DataSettings):
    """Keys of every format: how its arrays become observations, rewards and ends."""

    source: Annotated[
        str, Field(pattern=":."), Allowed("FORMAT:PLACE, e.g. npz:mine.npz"), DefaultText("")
    ] = Field(examples=["npz:mine.npz"])
    """`npz:FILE`, `npz:FOLDER` (its files are shards), `hdf5:FILE`, `minari:NAME`,
    `lerobot:FOLDER`"""
    observation_keys: Annotated[
        Names | None, DefaultText("the environment's, else all, in alphabetical order")
    ] = Field(default=None, examples=[["observation", "desired_goal"]])
    """the entries of dictionary observations, in the order of the vector; dotted where nested"""
    success: Annotated[
        Text | None, DefaultText("`success` or `is_success`; LeRobot: `next.success`")
    ] = Field(default=None, examples=["last"])
    """the array (Minari: the entry of `infos`) that is positive where the task is solved; `"last"`:
    each episode solves it in its last step"""
    terminal: Annotated[
        Literal["data", "success", "never"] | None,
        DefaultText('`"data"`; `"success"` with `terminate_at_success`'),
    ] = Field(default=None, examples=["success"])
    """the steps at which nothing is bootstrapped: where the data says that the task ended, where it
    is solved, or nowhere"""

    def reader(self, environment: EnvironmentSettings) -> "EpisodeReader":
        """The reader that turns episodes into transitions for an environment."""
        from qamx.data.formats.episodes import EpisodeReader

        return EpisodeReader(
            observation_keys=self.observation_keys,
            environment_keys=environment.observation_order,
            solved_at_last=self.success == "last",
            sparse=environment.sparse,
            terminal=self.terminal or ("success" if environment.stops_at_success else "data"),
        )


@registry.datasets.add("npz", "NumPy archives of your own, one file or a folder of shards")
class NpzDataSettings(EpisodicDataSettings):
    """`source = "npz:FILE"` or `"npz:FOLDER"`, whose files are shards."""

    updates_per_shard: PositiveInt | None = Field(default=None, examples=[1000])
    """updates on a file before the next takes its place; for a folder of several, and required
    there"""

    def build(self, environment: EnvironmentSettings) -> "DataSource":
        from qamx.data.formats.table import npz_data

        reader = self.reader(environment)
        return npz_data(self.name, self.success, reader, self.updates_per_shard)


@registry.datasets.add("hdf5", "HDF5 files in robomimic's layout or D4RL's")
class HDF5DataSettings(EpisodicDataSettings):
    """`source = "hdf5:FILE"`: robomimic's layout or D4RL's, recognised by their groups."""

    filter: Annotated[Text | None, DefaultText("all but `mask/valid`")] = Field(
        default=None, examples=["train"]
    )
    """learn from the demonstrations that robomimic's `mask/NAME` lists"""

    def build(self, environment: EnvironmentSettings) -> "DataSource":
        from qamx.data.formats.hdf5 import hdf5_data

        return hdf5_data(self.name, self.success, self.reader(environment), self.filter)


@registry.datasets.add("minari", "Minari's data sets, by name")
class MinariDataSettings(EpisodicDataSettings):
    """`source = "minari:D4RL/door/human-v2"`: a data set of Minari's, by its name."""

    def build(self, environment: EnvironmentSettings) -> "DataSource":
        from qamx.data.formats.minari import minari_data

        return minari_data(self.name, self.success, self.reader(environment))


@registry.datasets.add("lerobot", "LeRobot data sets of versions 2 and 3, their states")
class LeRobotDataSettings(EpisodicDataSettings):
    """`source = "lerobot:FOLDER"`: a LeRobot data set of version 2 or 3 with its states."""

    def build(self, environment: EnvironmentSettings) -> "DataSource":
        from qamx.data.formats.lerobot import lerobot_data

        return lerobot_data(self.name, self.success, self.reader(environment))


Walker = Literal["ant", "humanoid"]
WALKERS: tuple[Walker, ...] = ("ant", "humanoid")


def known_walker(address: str) -> str:
    """Return the address of a walker; raise a problem that suggests one for any other."""
    if name_of(address) not in WALKERS:
        raise value_problem(f"found {show(address)}; {suggestion(name_of(address), WALKERS)}")
    return address


@registry.datasets.add("walk", "random actions of an ant or a humanoid, drawn when a run begins")
class WalkDataSettings(DataSettings):
    """Random steps of a walker."""

    source: Annotated[Text, DefaultText("that of the environment")] = Field(examples=["walk:ant"])
    """`walk:ant` for `walk:ant`, else `walk:humanoid`"""
    steps: PositiveInt = 10_000
    """random steps that are played"""

    _check_walker = field_validator("source")(known_walker)

    def build(self, environment: Any) -> "DataSource":
        from qamx.data.source import RandomSteps

        return RandomSteps(environment.walker, self.steps)

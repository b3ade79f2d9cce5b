"""OGBench's names and the settings of its environments and data sets."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from qamx.config.experiment import DataSettings, EnvironmentSettings, name_of
from qamx.config.fields import Absent, Allowed, Count, PositiveInt, Switch, Text
from qamx.config.messages import show, value_problem
from qamx.data.ogbench.catalogue import DOMAIN_OF, SHARDED
from qamx.errors import suggestion


class OGBenchEnvironmentSettings(EnvironmentSettings):
    """A task of OGBench."""

    task: Annotated[int, Field(ge=1, le=5), Allowed("an integer from 1 to 5")] = Field(
        examples=[2], description="the task of the OGBench domain"
    )
    reward: Literal["default", "sparse"] = Field(
        default="default",
        description="`sparse`: −1 until every subtask is solved, then 0, in the data and online",
    )

    @field_validator("id")
    @classmethod
    def _known(cls, address: str) -> str:
        if name_of(address) not in DOMAIN_OF:
            raise value_problem(f"found {show(address)}; {suggestion(name_of(address), DOMAIN_OF)}")
        return address

    @property
    def label(self) -> str:
        return f"task{self.task}"

    @property
    def sparse(self) -> bool:
        return self.reward == "sparse"

    @property
    def stops_at_success(self) -> bool:
        return True

    def default_source(self) -> str:
        return f"ogbench:{self.name}-v0"

    def objection(self, data: DataSettings) -> str | None:
        domain = DOMAIN_OF[self.name]
        if isinstance(data, OGBenchDataSettings) and data.domain != domain:
            return (
                f"{show(data.source)} has the observations of {data.domain}, the environment "
                f"{show(self.id)} those of {domain}; write e.g. {show(self.default_source())}"
            )
        return None


class OGBenchDataSettings(DataSettings):
    """A data set of OGBench: one file, or a folder of shards taken in turn."""

    source: Annotated[Text, Absent("the environment's own set, `ogbench:ID-v0`")] = Field(
        examples=["ogbench:cube-quadruple-play-v0"],
        description="any data set of the same OGBench domain, so that `antmaze-large-navigate` may "
        "learn from `ogbench:antmaze-large-stitch-v0`. `-100m-` marks a folder of shards",
    )
    directory: Annotated[Text | None, Absent("`$QAMX_DATA`, else `~/.ogbench/data`")] = Field(
        default=None,
        examples=["data"],
        description="where data sets are kept; a set that is missing there is "
        "[downloaded](data.md#downloading-ogbenchs-sets)",
    )
    updates_per_shard: PositiveInt | None = Field(
        default=None,
        examples=[1000],
        description="updates on a shard before the next takes its place; for a folder of shards, "
        "and required there",
    )
    shards: Annotated[PositiveInt | None, Absent("all that are there")] = Field(
        default=None,
        examples=[10],
        description="use the first so many files of a folder of shards, by name; those that are "
        "missing are downloaded, all of them where there is no folder",
    )
    cache: Annotated[Switch | None, Absent("`true`")] = Field(
        default=None,
        examples=[False],
        description="keep each shard, once it is read, as memory-mapped arrays in `.cache` beside "
        "the shards; see [Data in shards](performance.md#data-in-shards)",
    )
    generate_episodes: PositiveInt | None = Field(
        default=None,
        examples=[1000],
        description="generate this many training episodes when the set is missing; ants and "
        "humanoids need their [expert](experts.md)",
    )
    generate_seed: Annotated[Count | None, Absent("`0`")] = Field(
        default=None,
        examples=[0],
        description="seed of that generation; only beside `generate_episodes`",
    )

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

    @field_validator("updates_per_shard")
    @classmethod
    def _fits_source(cls, updates: int | None, info: ValidationInfo) -> int | None:
        source = info.data.get("source")
        if source is not None and _is_sharded(source) and updates is None:
            raise value_problem(
                f"missing, and {show(source)} is a folder of shards; "
                "write a positive integer, e.g. 1000"
            )
        return _for_shards_alone(updates, source)

    @field_validator("shards", "cache")
    @classmethod
    def _of_a_folder(cls, value: int | None, info: ValidationInfo) -> int | None:
        return _for_shards_alone(value, info.data.get("source"))

    @field_validator("generate_episodes")
    @classmethod
    def _one_file(cls, episodes: int | None, info: ValidationInfo) -> int | None:
        source = info.data.get("source")
        if episodes is not None and source is not None and _is_sharded(source):
            raise value_problem(
                f"found {episodes}, but {show(source)} is a folder of shards; leave it out and "
                "make the shards with qamx data generate"
            )
        return episodes

    @field_validator("generate_seed")
    @classmethod
    def _has_use(cls, seed: int | None, info: ValidationInfo) -> int | None:
        if seed is not None and info.data.get("generate_episodes", seed) is None:
            raise value_problem(f"found {seed} without generate_episodes; write both or neither")
        return seed


def _for_shards_alone(value: int | None, source: str | None) -> int | None:
    """The value, or a problem if it is written beside a source that is one file."""
    if value is not None and source is not None and not _is_sharded(source):
        raise value_problem(
            f"found {show(value)}, but {show(source)} has no shards (a folder of them is "
            f'named "...{SHARDED}-v0"); leave it out'
        )
    return value


def _is_sharded(source: str) -> bool:
    return f"{SHARDED}-" in source


def _environment_of(source: str) -> str:
    return name_of(source).removesuffix("-v0").removesuffix(SHARDED)

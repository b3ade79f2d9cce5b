"""The names that an experiment file may use, and what each stands for.

Five registries map names to entries. Settings and builders may be given as
`"package.module:attribute"`, imported when first needed: listing and checking names costs no
import of JAX. A package of your own adds entries by calling the `register_*` functions when it
is imported, as an entry point of the group `qamx.plugins` or named by `plugins` in a file.
"""

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamx.errors import UserError, named, no_exit, suggestion

if TYPE_CHECKING:
    from pydantic import BaseModel

PLUGIN_GROUP = "qamx.plugins"


class RegistryError(UserError):
    """A name that nobody registered, or that two builders claim."""


class PluginError(UserError):
    """A plugin that cannot be imported."""


@dataclass(frozen=True)
class Entry:
    """A registered name: the model of its keys in the file, and what builds it.

    `settings` is a pydantic model and `builder` a callable; either may be a string
    `"package.module:attribute"` that `load_settings` and `load_builder` import.
    """

    name: str
    settings: "type[BaseModel] | str"
    builder: Callable[..., Any] | str
    summary: str

    def load_settings(self) -> "type[BaseModel]":
        """The pydantic model of this entry's keys."""
        return _resolve(self.settings)

    def load_builder(self) -> Callable[..., Any]:
        """The callable that makes the thing itself (may import JAX)."""
        return _resolve(self.builder)


class Registry:
    """Entries of one kind by name, in the order of their registration."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(
        self,
        name: str,
        *,
        settings: "type[BaseModel] | str",
        builder: Callable[..., Any] | str,
        summary: str,
    ) -> None:
        """Adds a name; registering the same builder again is allowed.

        **Raises:** `RegistryError` if another builder has the name.
        """
        taken = self._entries.get(name)
        if taken is not None and taken.builder != builder:
            raise RegistryError(
                f'{self.kind} "{name}" is taken by {taken.builder}; register another name'
            )
        self._entries[name] = Entry(name, settings, builder, summary)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise RegistryError(f'unknown {self.kind} "{name}"; {suggestion(name, self.names())}')
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def names(self) -> tuple[str, ...]:
        """All registered names."""
        return tuple(self._entries)


agents = Registry("method")
schedules = Registry("schedule")
environments = Registry("environment scheme")
datasets = Registry("data scheme")
temperatures = Registry("temperature schedule")

register_agent = agents.register
register_schedule = schedules.register
register_environment = environments.register
register_dataset = datasets.register
register_temperature = temperatures.register

for _name, _agent, _summary in (
    ("qam", "QAM", "Q-learning with adjoint matching: a flow fine-tuned against the critic"),
    ("qam_fql", "QAMFQL", "QAM with a one-step policy that follows the fine-tuned flow"),
    ("qam_edit", "QAMEdit", "QAM with a Gaussian edit of the fine-tuned flow's actions"),
    ("trqam", "TRQAM", "QAM whose temperature keeps it within a trust region of the behaviour"),
    ("bam", "BAM", "a flow fine-tuned by backpropagation through its memoryless SDE"),
    ("fbrac", "FBRAC", "a flow that climbs the critic through all steps of its ODE"),
    ("fql", "FQL", "a one-step policy that follows the behaviour flow and climbs the critic"),
    ("fedit", "FEdit", "a Gaussian edit of the behaviour flow's actions"),
    ("fawac", "FAWAC", "flow matching on the data's chunks weighed by their advantage"),
    ("cgql", "CGQL", "a behaviour flow guided by the critic's gradient as it acts"),
    ("cgql_mse", "CGQLMSE", "guidance by a critic of noised actions, fitted by squares"),
    ("cgql_linex", "CGQLLinex", "guidance by a critic of noised actions, fitted by LINEX"),
    ("qsm", "QSM", "a diffusion policy whose score is the critic's gradient"),
    ("dac", "DAC", "a diffusion policy pushed along the critic's gradient"),
    ("dsrl", "DSRL", "a policy that chooses the noise of the behaviour flow"),
    ("ifql", "IFQL", "implicit Q-learning, and the best of N samples of the behaviour flow"),
    ("rebrac", "ReBRAC", "a deterministic policy with a cloning penalty"),
    ("rlpd", "RLPD", "SAC from scratch online, on old and new data in equal parts"),
    ("rql", "RQL", "a flow whose every step climbs a critic of its intermediate states"),
):
    register_agent(
        _name,
        settings=f"qamx.config.agents:{_agent}Settings",
        builder=f"qamx.agents:{_agent}",
        summary=_summary,
    )
register_schedule(
    "cloning",
    settings="qamx.config.schedules:CloningSettings",
    builder="qamx.build:cloning",
    summary="clone the data, for other runs to start from",
)
register_schedule(
    "offline",
    settings="qamx.config.schedules:OfflineSettings",
    builder="qamx.build:offline",
    summary="learn from the data set alone",
)
register_schedule(
    "online",
    settings="qamx.config.schedules:OnlineSettings",
    builder="qamx.build:online",
    summary="learn in the environment from the start, with the data beside",
)
register_schedule(
    "offline_to_online",
    settings="qamx.config.schedules:OfflineToOnlineSettings",
    builder="qamx.build:offline_to_online",
    summary="learn from the data set, then go on in the environment with the same objective",
)
register_environment(
    "ogbench",
    settings="qamx.config.ogbench:OGBenchEnvironmentSettings",
    builder="qamx.worlds:ogbench_environment",
    summary="single-task OGBench environments, such as cube-quadruple-play",
)
register_environment(
    "gymnasium",
    settings="qamx.config.environments:GymnasiumEnvironmentSettings",
    builder="qamx.worlds:gymnasium_environment",
    summary="environments with Gymnasium's interface, by id or entry point",
)
register_dataset(
    "ogbench",
    settings="qamx.config.ogbench:OGBenchDataSettings",
    builder="qamx.worlds:ogbench_data",
    summary="OGBench data sets, one file or a folder of shards",
)
for _name, _settings, _summary in (
    ("npz", "NpzDataSettings", "NumPy archives of your own, one file or a folder of shards"),
    ("hdf5", "HDF5DataSettings", "HDF5 files in robomimic's layout or D4RL's"),
    ("minari", "MinariDataSettings", "Minari's data sets, by name"),
    ("lerobot", "LeRobotDataSettings", "LeRobot data sets of versions 2 and 3, their states"),
):
    register_dataset(
        _name,
        settings=f"qamx.config.datasets:{_settings}",
        builder=f"qamx.worlds:{_name}_data",
        summary=_summary,
    )
register_environment(
    "walk",
    settings="qamx.config.environments:WalkEnvironmentSettings",
    builder="qamx.worlds:walk_environment",
    summary="an ant or a humanoid told where to walk, which the experts of mazes learn",
)
register_dataset(
    "walk",
    settings="qamx.config.environments:WalkDataSettings",
    builder="qamx.worlds:walk_data",
    summary="random steps of an ant or a humanoid, played when a run begins",
)
register_temperature(
    "constant",
    settings="qamx.config.inverse_temperature:ConstantTemperature",
    builder="qamx.assembly:constant",
    summary="the same inverse temperature throughout (a plain number in the file)",
)
register_temperature(
    "linear",
    settings="qamx.config.inverse_temperature:LinearTemperature",
    builder="qamx.assembly:linear",
    summary="from start to stop over a number of updates, stop from then on",
)
register_temperature(
    "trust_region",
    settings="qamx.config.inverse_temperature:TrustRegionTemperature",
    builder="qamx.assembly:trust_region",
    summary="whatever keeps the policy's paths within a divergence of the behaviour's",
)


_imported: dict[str, None] = {}


def plugins() -> tuple[str, ...]:
    """The modules that have been imported as plugins, in their order."""
    return tuple(_imported)


def load_plugin(module: str, folder: Path) -> None:
    """Imports a module that registers entries, from `sys.path`, here, or `folder`.

    **Raises:** `PluginError` if it is not found or fails while it is imported.
    """
    places = (str(Path.cwd()), str(folder.resolve()))
    sys.path.extend(dict.fromkeys(place for place in places if place not in sys.path))
    importlib.invalidate_caches()
    try:
        with no_exit():
            importlib.import_module(module)
        _imported[module] = None
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            raise PluginError(_not_found(module, folder)) from error
        raise PluginError(f'plugin "{module}" does not import: {named(error)}') from error


@functools.cache
def load_installed_plugins() -> tuple[PluginError, ...]:
    """Imports every entry point of the group `qamx.plugins`; returns what went wrong."""
    problems = []
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            with no_exit():
                point.load()
            _imported[point.module] = None
        except Exception as error:
            problems.append(PluginError(f'installed plugin "{point.name}": {named(error)}'))
    return tuple(problems)


def _not_found(module: str, folder: Path) -> str:
    found = {path.stem for place in (Path.cwd(), folder) for path in place.glob("*.py")}
    return (
        f'plugin "{module}" is neither installed nor a module in the current directory, on '
        f'PYTHONPATH or in "{folder}"' + (f"; {suggestion(module, found)}" if found else "")
    )


def _resolve(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)

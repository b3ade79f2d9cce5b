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

from qamx.errors import UserError, suggestion

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

register_agent(
    "qam",
    settings="qamx.config.agents:QAMSettings",
    builder="qamx.build:qam",
    summary="Q-learning with adjoint matching: a flow fine-tuned against the critic",
)
register_agent(
    "qam_fql",
    settings="qamx.config.agents:QAMFQLSettings",
    builder="qamx.build:qam_fql",
    summary="QAM with a one-step policy that follows the fine-tuned flow",
)
register_agent(
    "qam_edit",
    settings="qamx.config.agents:QAMEditSettings",
    builder="qamx.build:qam_edit",
    summary="QAM with a Gaussian edit of the fine-tuned flow's actions",
)
register_schedule(
    "offline",
    settings="qamx.config.schedules:OfflineSettings",
    builder="qamx.build:offline",
    summary="learn from the data set alone",
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
    builder="qamx.build:ogbench_environment",
    summary="single-task OGBench environments, such as cube-quadruple-play",
)
register_dataset(
    "ogbench",
    settings="qamx.config.ogbench:OGBenchDataSettings",
    builder="qamx.build:ogbench_data",
    summary="OGBench data sets, one file or a folder of shards",
)
register_temperature(
    "constant",
    settings="qamx.config.temperatures:ConstantTemperature",
    builder="qamx.build:constant",
    summary="the same inverse temperature throughout (a plain number in the file)",
)
register_temperature(
    "linear",
    settings="qamx.config.temperatures:LinearTemperature",
    builder="qamx.build:linear",
    summary="from start to stop over a number of updates, stop from then on",
)


def load_plugin(module: str, folder: Path) -> None:
    """Imports a module that registers entries, from `sys.path`, here, or `folder`.

    **Raises:** `PluginError` if it is not found or fails while it is imported.
    """
    places = (str(Path.cwd()), str(folder.resolve()))
    sys.path.extend(dict.fromkeys(place for place in places if place not in sys.path))
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            raise PluginError(_not_found(module, folder)) from error
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f'plugin "{module}" does not import: {reason}') from error


@functools.cache
def load_installed_plugins() -> tuple[PluginError, ...]:
    """Imports every entry point of the group `qamx.plugins`; returns what went wrong."""
    problems = []
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            problems.append(PluginError(f'installed plugin "{point.name}": {reason}'))
    return tuple(problems)


def _not_found(module: str, folder: Path) -> str:
    found = {path.stem for place in (Path.cwd(), folder) for path in place.glob("*.py")}
    return (
        f'plugin "{module}" is neither installed nor a module in the current directory or '
        f'"{folder}"' + (f"; {suggestion(module, found)}" if found else "")
    )


def _resolve(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)

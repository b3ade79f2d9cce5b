"""The names that an experiment file may use, and the settings class of each.

Five registries map a name to the class of its keys, which also builds the object (`build`). The
built-in classes register themselves where they are defined, in `qamx.config`. A plugin adds names
by calling the `register_*` functions when it is imported, as an entry point of the group
`qamx.plugins` or named by `plugins` in a file. Listing and checking names imports no JAX.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from qamx.errors import UserError, named, no_exit, suggestion

if TYPE_CHECKING:
    from pydantic import BaseModel

PLUGIN_GROUP = "qamx.plugins"
BUILT_IN = "qamx.config"
"""The package whose import registers the built-in names."""

Model = TypeVar("Model", bound="type[BaseModel]")


class RegistryError(UserError):
    """A name that is not registered, or is registered twice."""


class PluginError(UserError):
    """A plugin that cannot be imported."""


@dataclass(frozen=True)
class RegistryEntry:
    """A registered name with the model of its keys.

    `builder` is for plugins: a callable that takes the place of the model's `build`. Model and
    builder may be strings `"package.module:attribute"`, imported when first needed.
    """

    name: str
    settings: "type[BaseModel] | str"
    builder: Callable[..., Any] | str | None
    summary: str

    def load_settings(self) -> "type[BaseModel]":
        """The pydantic model of this entry's keys."""
        return _resolve(self.settings)

    def load_builder(self) -> Callable[..., Any]:
        """The callable that turns settings into the object (may import JAX).

        **Raises:** `RegistryError` if neither a builder nor the settings can.
        """
        if self.builder is not None:
            return _resolve(self.builder)
        settings: Any = self.load_settings()
        if not hasattr(settings, "build"):
            raise RegistryError(
                f'"{self.name}": {settings.__name__} has no method `build`; write one, or register '
                "a builder"
            )
        return settings.build

    def build(self, settings: "BaseModel", *arguments: Any) -> Any:
        """The object that the builder makes.

        **Raises:** `RegistryError` if the builder does not take these arguments.
        """
        builder = self.load_builder()
        with contextlib.suppress(ValueError):  # of a callable without a signature
            try:
                inspect.signature(builder).bind(settings, *arguments)
            except TypeError as error:
                given = ", ".join(["its settings", *(type(each).__name__ for each in arguments)])
                raise RegistryError(
                    f'"{self.name}": the builder {getattr(builder, "__qualname__", builder)} is '
                    f"called with {given}, and does not take that: {error}"
                ) from error
        return builder(settings, *arguments)


class Registry:
    """Entries of one kind by name, in the order of their registration."""

    def __init__(self, kind: str, built_in: str | None = None):
        self.kind = kind
        self._built_in = built_in
        self._own: dict[str, RegistryEntry] = {}

    @property
    def _entries(self) -> dict[str, RegistryEntry]:
        """All entries, the built-in ones first."""
        if self._built_in is not None:
            importlib.import_module(self._built_in)
        return self._own

    def add(self, name: str, summary: str) -> "Callable[[Model], Model]":
        """Decorate a settings class to register it under a name."""

        def register(settings: Model) -> Model:
            self._own[name] = RegistryEntry(name, settings, None, summary)
            return settings

        return register

    def register(
        self,
        name: str,
        *,
        settings: "type[BaseModel] | str",
        builder: Callable[..., Any] | str | None = None,
        summary: str,
    ) -> None:
        """Adds a name; registering the same builder again is allowed.

        **Arguments:** without a `builder`, the `build` method of `settings` makes the object.

        **Raises:** `RegistryError` if another builder has the name.
        """
        if present := self._entries.get(name):
            owner = present.builder or present.settings
            if owner != (builder or settings):
                raise RegistryError(
                    f'{self.kind} "{name}" is taken by {owner}; register another name'
                )
        self._entries[name] = RegistryEntry(name, settings, builder, summary)

    def __getitem__(self, name: str) -> RegistryEntry:
        if name not in self._entries:
            raise RegistryError(self.unknown(name))
        return self._entries[name]

    def unknown(self, name: str) -> str:
        """The message for a name that is not registered."""
        return f'unknown {self.kind} "{name}"; {suggestion(name, self.names())}'

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[RegistryEntry]:
        return iter(self._entries.values())

    def names(self) -> tuple[str, ...]:
        """All registered names."""
        return tuple(self._entries)

    def build(self, name: str, settings: "BaseModel", *arguments: Any) -> Any:
        """The object that an entry builds from its settings.

        **Raises:** `RegistryError` as `RegistryEntry.build`.
        """
        return self[name].build(settings, *arguments)


agents = Registry("method", BUILT_IN)
schedules = Registry("schedule", BUILT_IN)
environments = Registry("environment scheme", BUILT_IN)
datasets = Registry("data scheme", BUILT_IN)
temperatures = Registry("temperature schedule", BUILT_IN)

register_agent = agents.register
register_schedule = schedules.register
register_environment = environments.register
register_dataset = datasets.register
register_temperature = temperatures.register

_imported: dict[str, None] = {}


def plugins() -> tuple[str, ...]:
    """Modules imported as plugins, in the order of their import."""
    return tuple(_imported)


def load_plugin(module: str, folder: Path) -> None:
    """Import a module that registers entries, from `sys.path`, the current folder, or `folder`.

    **Raises:** `PluginError` if it is not found or fails while it is imported.
    """
    folders = (str(Path.cwd()), str(folder.resolve()))
    sys.path.extend(dict.fromkeys(path for path in folders if path not in sys.path))
    importlib.invalidate_caches()
    try:
        with no_exit():
            importlib.import_module(module)
        _imported[module] = None
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            modules = {path.stem for parent in (Path.cwd(), folder) for path in parent.glob("*.py")}
            near = f"; {suggestion(module, modules)}" if modules else ""
            raise PluginError(
                f'plugin "{module}" is neither installed nor a module in the current directory, on '
                f'PYTHONPATH or in "{folder}"{near}'
            ) from error
        raise PluginError(f'plugin "{module}" does not import: {named(error)}') from error


@functools.cache
def load_installed_plugins() -> tuple[PluginError, ...]:
    """Import every entry point of the group `qamx.plugins`; returns the failures."""
    problems = []
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            with no_exit():
                point.load()
            _imported[point.module] = None
        except Exception as error:
            problems.append(PluginError(f'installed plugin "{point.name}": {named(error)}'))
    return tuple(problems)


def _resolve(target: Any) -> Any:
    return resolve_name(target) if isinstance(target, str) else target

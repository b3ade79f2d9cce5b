"""Writes the tables of keys in the pages from the models of `qamx.config`, and that of tuned values
from the experiments.

    python docs/keys.py

fills in what stands between `<!-- keys: NAME -->` and `<!-- end -->`, where `NAME` is one of
`TABLES`. A test says when that was forgotten.
"""

import ast
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import tomli
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from qamx import registry
from qamx.config import (
    AgentSettings,
    CheckpointSettings,
    ComputeSettings,
    DataSettings,
    EnvironmentSettings,
    EvaluationSettings,
    LoggingSettings,
    ScheduleSettings,
    load,
)
from qamx.config.experiment import GeneralSettings
from qamx.config.fields import Allowed, DefaultText
from qamx.config.search import SearchSettings
from qamx.config.suite import (
    GroupSettings,
    SelectedSettings,
    SharedSettings,
    VariantSettings,
    to_toml,
)
from qamx.registry import Registry
from qamx.tools.sweep.slurm import ClusterSettings

DOCS = Path(__file__).parent
Models = Mapping[str, type[BaseModel]]
SELECTORS = ("method", "kind", "schedule")
"""Keys that name a model; in the model itself they are fixed, and have no row."""


class Key(NamedTuple):
    """A row of a table."""

    name: str
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        cells = (f"`{self.name}`", self.type, self.default, self.meaning)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def key(model: type[BaseModel], name: str, prefix: str = "") -> Key:
    """The row of a field."""
    field, text = model.model_fields[name], meaning(model, name)
    assert text, f"{name} needs a docstring"
    return Key(prefix + name, _type(field), _default(field), text)


def meaning(model: type[BaseModel], name: str) -> str:
    """The meaning of a field: its description, or the docstring below it."""
    owner = next(each for each in model.__mro__ if name in inspect.get_annotations(each))
    return model.model_fields[name].description or _docstrings(owner).get(name, "")


@functools.cache
def _docstrings(model: type) -> dict[str, str]:
    """The docstrings of the fields that a class itself declares."""
    (declared,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(declared, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(declared.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(text.value.value, str)
    }


def _type(field: FieldInfo) -> str:
    texts = [mark.text for mark in field.metadata if isinstance(mark, Allowed)]
    text = texts[0] if texts else " or ".join(_names(field.annotation))
    for article in ("a ", "an "):
        text = text.removeprefix(article)
    return re.sub(r",? (?:e\.g\.|such as) \[.*", "", text)


def _names(annotation: Any) -> Iterator[str]:
    """What an annotation without a sentence of its own admits."""
    if annotation in (type(None), None):
        return
    if get_origin(annotation) is Literal:
        yield ", ".join(f'`"{value}"`' for value in get_args(annotation))
        return
    marks = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Allowed)]
    if marks:
        yield marks[0].text
    elif annotation is str:
        yield "string"
    else:
        for part in get_args(annotation):
            yield from _names(part)


def _default(field: FieldInfo) -> str:
    for mark in field.metadata:
        if isinstance(mark, DefaultText):
            return mark.text
    if field.default in (None, PydanticUndefined):
        return ""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    if isinstance(value, int) and not isinstance(value, bool):
        return f"`{value:_}`" if value % 1000 == 0 else f"`{value}`"
    return f"`{to_toml(value) if value else str(value).lower()}`"


# Tables


def table(keys: Iterable[Key]) -> str:
    """Rows under a head."""
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *map(str, keys)])


def keys_of(model: type[BaseModel], prefix: str = "") -> list[Key]:
    """The rows of a model's fields."""
    names = [name for name in model.model_fields if name not in SELECTORS or meaning(model, name)]
    return [key(model, name, prefix) for name in names]


def common(base: type[BaseModel], models: Models) -> str:
    """What all models have, each default with those that have another one."""
    rows = []
    for name in base.model_fields:
        row = key(base, name)
        others: dict[str, list[str]] = {}
        for owner, model in models.items():
            default = _default(model.model_fields[name])
            if default != row.default and name not in SELECTORS:
                others.setdefault(default, []).append(f"`{owner}`")
        parts = [row.default, *(f"{', '.join(who)}: {what}" for what, who in others.items())]
        rows.append(row._replace(default="; ".join(filter(None, parts))))
    return table(rows)


def own(base: type[BaseModel], models: Models) -> str:
    """What each model has besides, models that share keys together under their names."""
    owners: dict[Key, list[str]] = {}
    for name, model in models.items():
        for row in keys_of(model):
            if _is_new(row, base):
                owners.setdefault(row, []).append(name)
    tables: dict[tuple[str, ...], list[Key]] = {}
    for row, names in owners.items():
        tables.setdefault(tuple(names), []).append(row)
    titled = (f"{_quoted(names)}:\n\n{table(rows)}" for names, rows in tables.items())
    return "\n\n".join(titled)


def _is_new(row: Key, base: type[BaseModel]) -> bool:
    """Whether a row is of no field of the base, or means something else there."""
    return row.name not in base.model_fields or meaning(base, row.name) != row.meaning


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def only(scheme: str, models: Models, base: type[BaseModel]) -> str:
    """What one model has besides."""
    return table(row for row in keys_of(models[scheme]) if _is_new(row, base))


def of(entries: Registry) -> Models:
    """The built-in settings of a registry by name."""
    return {entry.name: entry.load_settings() for entry in entries}


def sections() -> str:
    """The sections that are the same in every experiment."""
    models = {
        "evaluation": EvaluationSettings,
        "checkpoint": CheckpointSettings,
        "logging": LoggingSettings,
        "compute": ComputeSettings,
    }
    return table(row for name, model in models.items() for row in keys_of(model, f"{name}."))


def temperatures() -> str:
    """The schedules of the inverse temperature, with their keys."""
    rows = ["| `schedule` | key | type | default | meaning |", "|---|---|---|---|---|"]
    for name, model in of(registry.temperatures).items():
        shown = f'`"{name}"`'
        for row in keys_of(model):
            rows.append(f"| {shown} {row}")
            shown = ""
    return "\n".join(rows)


def suite() -> str:
    """The tables of a suite, a key in each that has it."""
    places: dict[Key, list[str]] = {}
    models = {
        "a group": GroupSettings,
        "`[suite]`": SharedSettings,
        "a variant": VariantSettings,
        "`[selected]`": SelectedSettings,
    }
    for place, model in models.items():
        for row in keys_of(model):
            places.setdefault(row, []).append(place)
    rows = ["| key | in | type | default | meaning |", "|---|---|---|---|---|"]
    for row, names in places.items():
        rows.append(str(row).replace("` |", f"` | {', '.join(names)} |", 1))
    return "\n".join(rows)


def domains() -> str:
    """The codes of the domains and what their files set."""
    rows = [
        "| code | environment | task | data | `horizon` | `discount` | `pessimism` |",
        "|---|---|---|---|---|---|---|",
    ]
    for domain in DOMAINS:
        experiment = load(EXPERIMENTS / f"{domain}_qam.toml")
        values = experiment.to_dict()
        environment, agent = values["environment"], values["agent"]
        cells = (
            f"`{domain}`",
            f"`{environment['id']}`" + ", sparse" * (environment["reward"] == "sparse"),
            environment["task"],
            f"`{experiment.data.name}`",
            *(agent[key] for key in ("horizon", "discount", "pessimism")),
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


EXPERIMENTS = DOCS.parent / "experiments"
DOMAINS = ("al", "ag", "hm", "hl", "scene", "p33", "p44", "c2", "c3", "c4")


def tuned() -> str:
    """The values of `[agent]` that the experiments set for a method and a domain."""
    head = ("method", "key", *(f"`{domain}`" for domain in DOMAINS))
    rows = [head, ("---",) * len(head)]
    for method in registry.agents.names():
        files = [EXPERIMENTS / f"{domain}_{method}.toml" for domain in DOMAINS]
        agents = [load(file).agent.model_dump() for file in files]
        title = f"[`{method}`](#{method.replace('_', '-')})"
        for name in _tuned_keys(method):
            values = (f"{agent.get(name, 0):g}" for agent in agents)
            rows.append((title, f"`{name}`", *values))
            title = ""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _tuned_keys(method: str) -> list[str]:
    """The keys of `[agent]` in a method's own files, in the order of its settings."""
    files = (EXPERIMENTS / f"{domain}_{method}.toml" for domain in DOMAINS)
    written = {key for file in files for key in tomli.loads(file.read_text()).get("agent", {})}
    model = registry.agents[method].load_settings()
    return [key for key in model.model_fields if key in written - {"method"}]


OWN_DATA = ("npz", "hdf5", "minari", "lerobot")

TABLES: dict[str, Callable[[], str]] = {
    "general": lambda: table(keys_of(GeneralSettings)),
    "environment": lambda: table(keys_of(EnvironmentSettings)),
    "environment ogbench": lambda: only("ogbench", of(registry.environments), EnvironmentSettings),
    "environment gymnasium": lambda: only(
        "gymnasium", of(registry.environments), EnvironmentSettings
    ),
    "data": lambda: table(keys_of(DataSettings)),
    "data ogbench": lambda: only("ogbench", of(registry.datasets), DataSettings),
    "data of your own": lambda: own(
        DataSettings, {f"{name}:": of(registry.datasets)[name] for name in OWN_DATA}
    ),
    "data walk": lambda: only("walk", of(registry.datasets), DataSettings),
    "agent": lambda: common(AgentSettings, of(registry.agents)),
    "agent of each method": lambda: own(AgentSettings, of(registry.agents)),
    "temperatures": temperatures,
    "schedule": lambda: table(keys_of(ScheduleSettings)),
    "schedule of each kind": lambda: own(ScheduleSettings, of(registry.schedules)),
    "domains": domains,
    "tuned values": tuned,
    "sections": sections,
    "suite": suite,
    "search": lambda: table(keys_of(SearchSettings)),
    "cluster": lambda: table(keys_of(ClusterSettings)),
}

_PLACE = re.compile(r"(<!-- keys: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page with its tables as the models have them."""
    return _PLACE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


def main() -> None:
    """Renews the tables of all pages."""
    for file in sorted(DOCS.glob("*.md")):
        page = file.read_text()
        if (new := filled(page)) != page:
            file.write_text(new)
            print(f"renewed {file.name}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""The listing of `qamx list`: registered names, and the experiments and suites here and in qamx."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from qamx import registry
from qamx._utils.files import TextError, read_text
from qamx._utils.terminal import print_table
from qamx.config.experiment import flat
from qamx.config.messages import ConfigError
from qamx.config.suite import load_suite
from qamx.config.toml import SUITES, gather, library, names

Section = tuple[str, list[tuple[str, str]]]


def print_listing(folder: Path) -> None:
    """Print all names with a line on each: as tables on a terminal, or else as plain text.

    **Raises:** `PluginError` if an installed plugin cannot be imported.
    """
    sections = listing(folder)
    if sys.stdout.isatty():
        for title, rows in sections:
            print_table(title, ("", ""), rows)
        return
    width = max(len(name) for _, rows in sections for name, _ in rows)
    for title, rows in sections:
        print(f"{title}:")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}".rstrip())


def listing(folder: Path) -> list[Section]:
    """The sections of the list that are not empty: a title, and names with summaries.

    **Raises:** `PluginError` if an installed plugin cannot be imported.
    """
    for error in registry.load_installed_plugins():
        raise error
    return [section for section in _sections(folder) if section[1]]


def _sections(folder: Path) -> Iterator[Section]:
    for title, entries in (
        ("methods", registry.agents),
        ("schedules", registry.schedules),
        ("environments", registry.environments),
        ("data sources", registry.datasets),
        ("temperature schedules", registry.temperatures),
    ):
        yield title, [(entry.name, entry.summary) for entry in entries]
    own = dict(names(folder))
    yield from _files(f"in {folder}", {str(file): file for file in own.values()})
    packed = {name: file for name, file in names(library()) if name not in own}
    yield from _files("that come with qamx", packed)


def _files(place: str, named: Mapping[str, Path]) -> Iterator[Section]:
    """Experiments and suites, by the names that a command takes."""
    experiments, suites = [], []
    for name, file in named.items():
        if file.parent.name == SUITES.name:
            suites.append((name, _suite_summary(file)))
        else:
            experiments.append((name, _summary(file)))
    yield f"experiments {place}", experiments
    yield f"suites {place}", suites


def _suite_summary(file: Path) -> str:
    try:
        size = f"{len(load_suite(file)):,} runs"
    except ConfigError:
        size = "not valid: see qamx check"
    return f"{_first_comment(file)} ({size})"


def _summary(file: Path) -> str:
    """The title of an experiment's file, else its method and environment."""
    title = _first_comment(file)
    if title and not title.startswith("Source:"):
        return title
    values = flat(gather(file, (), None).values)
    method, environment, source = map(values.get, ("agent.method", "environment.id", "data.source"))
    if not isinstance(method, str) or not isinstance(environment, str):
        return ""
    return f"{method} on {environment}" + (f", data {source}" if source else "")


def _first_comment(file: Path) -> str:
    try:
        first = read_text(file).partition("\n")[0]
    except (OSError, TextError):  # reported when the file is loaded
        return ""
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""

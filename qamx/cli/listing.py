"""The listing of `qamx list`: registered names, and the experiments and suites here and in qamx."""

from collections.abc import Iterator
from pathlib import Path

from qamx import registry
from qamx._utils.files import TextError, read_text
from qamx._utils.terminal import print_table
from qamx.config.experiment import flat
from qamx.config.messages import ConfigError
from qamx.config.suite import load_suite
from qamx.config.toml import HERE, SUITES, gather, library, names

Section = tuple[str, list[tuple[str, str]]]


def print_listing() -> None:
    """Prints all names with a line on each.

    **Raises:** `PluginError` if an installed plugin cannot be imported.
    """
    sections = listing(HERE)
    width = max(len(name) for _, rows in sections for name, _ in rows)
    for title, rows in sections:
        print_table(f"{title}:", ("", ""), [(name.ljust(width), summary) for name, summary in rows])


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
    packed = {name: file for name, file in names(library()) if name not in own}
    for place, named in (
        (f"in {folder}", {str(file): file for file in own.values()}),
        ("that come with qamx", packed),
    ):
        rows = {name: _summary(file) for name, file in named.items()}
        suites = {name for name, file in named.items() if file.parent.name == SUITES.name}
        yield f"experiments {place}", [row for row in rows.items() if row[0] not in suites]
        yield f"suites {place}", [row for row in rows.items() if row[0] in suites]


def _summary(file: Path) -> str:
    """The title of a file; of a suite its size as well, else an experiment's method and data."""
    try:
        title = read_text(file).partition("\n")[0]
    except (OSError, TextError):  # reported when the file is loaded
        title = ""
    title = title.lstrip("# ").rstrip() if title.startswith("#") else ""
    if file.parent.name == SUITES.name:
        try:
            return f"{title} ({len(load_suite(file)):,} runs)"
        except ConfigError:
            return f"{title} (not valid: see qamx check)"
    if title and not title.startswith("Source:"):
        return title
    values = flat(gather(file, (), None).values)
    method, environment, source = map(values.get, ("agent.method", "environment.id", "data.source"))
    if not isinstance(method, str) or not isinstance(environment, str):
        return ""
    return f"{method} on {environment}" + (f", data {source}" if source else "")

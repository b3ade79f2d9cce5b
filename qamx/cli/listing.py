"""What `qamx list` prints: registered names, and the experiments and suites here and in qamx."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from qamx import registry
from qamx._utils.files import TextError, read_text
from qamx.config.library import SUITES, library, names
from qamx.config.messages import ConfigError
from qamx.config.suite import load_suite

Section = tuple[str, list[tuple[str, str]]]


def listing(folder: Path, *, tables: bool) -> str:
    """All names with a line on each: as tables for a terminal, or else plain text.

    **Raises:** `PluginError` if an installed plugin cannot be imported.
    """
    for error in registry.load_installed_plugins():
        raise error
    sections = [section for section in _sections(folder) if section[1]]
    return _tables(sections) if tables else _plain(sections)


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


def _files(where: str, named: Mapping[str, Path]) -> Iterator[Section]:
    """Experiments and suites, as they are called on a command line."""
    experiments, suites = [], []
    for name, file in named.items():
        if file.parent.name == SUITES.name:
            suites.append((name, _suite_summary(file)))
        else:
            experiments.append((name, _first_comment(file)))
    yield f"experiments {where}", experiments
    yield f"suites {where}", suites


def _suite_summary(file: Path) -> str:
    try:
        size = f"{len(load_suite(file)):,} runs"
    except ConfigError:
        size = "not valid: see qamx check"
    return f"{_first_comment(file)} ({size})"


def _first_comment(file: Path) -> str:
    try:
        first = read_text(file).partition("\n")[0]
    except (OSError, TextError):  # which the file's own readers complain of
        return ""
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def _plain(sections: list[Section]) -> str:
    width = max(len(name) for _, rows in sections for name, _ in rows)
    lines = []
    for title, rows in sections:
        lines += [f"{title}:", *(f"  {name:<{width}}  {summary}" for name, summary in rows)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _tables(sections: list[Section]) -> str:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    with console.capture() as captured:
        for title, rows in sections:
            table = Table(title=title, title_justify="left", show_header=False)
            table.add_column(style="bold", no_wrap=True)
            table.add_column()
            for row in rows:
                table.add_row(*row)
            console.print(table)
    return captured.get()

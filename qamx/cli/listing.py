"""The listing of `qamx list`: registered names, and the experiments and suites here and in qamx."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from qamx import registry
from qamx._utils.files import TextError, read_text
from qamx._utils.terminal import print_table
from qamx.config.experiment import flat
from qamx.config.messages import ConfigError
from qamx.config.suite import load_suite
from qamx.config.toml import HERE, SUITES, domains, gather, grid, library, names
from qamx.errors import UserError, suggestion

Section = tuple[str, list[tuple[str, str]]]

REGISTRIES = {
    "methods": ("methods", registry.agents),
    "schedules": ("schedules", registry.schedules),
    "environments": ("environments", registry.environments),
    "data": ("data sources", registry.datasets),
    "temperatures": ("temperature schedules", registry.temperatures),
}
"""The title and the names of each kind that experiment files choose from."""

KINDS = (*REGISTRIES, "experiments", "suites")
"""The kinds of names that `qamx list` takes first."""


def print_listing(words: Sequence[str]) -> None:
    """Prints names with a line on each.

    **Arguments:** `words` are texts that a name or its line contains, after one of `KINDS` if only
    these are listed.

    **Raises:** `UserError` if nothing is found; `PluginError` if an installed plugin cannot be
    imported.
    """
    kind, texts = (words[0], words[1:]) if words and words[0] in KINDS else (None, words)
    sections = listing(HERE, kind, texts)
    if not sections:
        near = suggestion(words[0], KINDS)
        what = f"none of the {kind} contains" if kind else "nothing contains"
        remedy = "" if kind else f"; {near}"
        raise UserError(f'qamx list: {what} "{" ".join(texts)}"{remedy}')
    width = max(len(name) for _, rows in sections for name, _ in rows)
    for title, rows in sections:
        print_table(f"{title}:", ("", ""), [(name.ljust(width), summary) for name, summary in rows])


def listing(folder: Path, kind: str | None = None, texts: Sequence[str] = ()) -> list[Section]:
    """The sections of the list that are not empty: a title, and names with summaries.

    **Arguments:** `folder` is the user's folder of experiments; only rows of `kind` that contain
    all `texts` are listed. Methods get the experiments of each, by domain.

    **Raises:** `PluginError` if an installed plugin cannot be imported.
    """
    for error in registry.load_installed_plugins():
        raise error
    wanted = [text.lower() for text in texts]
    sections = [
        (title, [row for row in rows if all(text in " ".join(row).lower() for text in wanted)])
        for title, rows in _sections(folder, kind)
    ]
    if kind == "methods" and (methods := [name for name, _ in sections[0][1]]):
        sections += [("experiments, DOMAIN_METHOD", _grid(folder, methods)), _domains()]
    return [section for section in sections if section[1]]


def _sections(folder: Path, kind: str | None) -> Iterator[Section]:
    for name, (title, entries) in REGISTRIES.items():
        if kind in (None, name):
            yield title, [(entry.name, entry.summary) for entry in entries]
        if name == "environments" and kind in (None, name):
            yield _domains()
    if kind not in (None, "experiments", "suites"):
        return
    own = dict(names(folder))
    packed = {name: file for name, file in names(library()) if name not in own}
    for place, named in (
        (f"in {folder}/", {str(file): file for file in own.values()}),
        ("that come with qamx", packed),
    ):
        suites = {name for name, file in named.items() if file.parent.name == SUITES.name}
        for group, chosen in (("experiments", named.keys() - suites), ("suites", suites)):
            if kind in (None, group):
                rows = [(name, _summary(named[name])) for name in named if name in chosen]
                yield f"{group} {place}", rows


def _grid(folder: Path, methods: Sequence[str]) -> list[tuple[str, str]]:
    """The codes of the domains on which each method has an experiment, in columns."""
    known = {name for place in (folder, library()) for name, _ in names(place)}
    return [
        (method, "  ".join(code if code in found else " " * len(code) for code in domains()))
        for method in methods
        for found in [grid(known, method)]
    ]


def _domains() -> Section:
    return "domains", list(domains().items())


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

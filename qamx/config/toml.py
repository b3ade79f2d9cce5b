"""Experiment files: found by name, read with what they extend, overridden, with origins."""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tomli
from pydantic import BaseModel, ValidationError

from qamx._utils.files import TextError, read_text
from qamx.config.messages import ConfigProblem, Key, field_errors, show
from qamx.errors import suggestion

HERE = Path("experiments")
"""The user's folder of experiments, in the current directory."""

SUITES = Path("suites")
"""The subfolder of suites in a folder of experiments."""


def library() -> Path:
    """The folder of the experiments that come with qamx.

    A wheel has them as `qamx/_experiments`, a clone at its top level.
    """
    package = Path(__file__).parents[1]
    packed = package / "_experiments"
    return packed if packed.is_dir() else package.parent / "experiments"


def find_experiment(name: str | Path) -> Path:
    """The file of a path or a name, such as `c4_qam_edit`; a suite's if no experiment has the name.

    A path to a file means that file. Any other name, with or without `.toml`, is looked for in
    `experiments/` of the current directory, then among the packaged experiments; a note is logged
    if both have it and differ. A name found in neither is returned unchanged.
    """
    return _find(Path(name), (Path(), SUITES))


def find_suite(name: str | Path) -> Path:
    """As `find_experiment`, suites first: `table1` and `suites/table1` are the same."""
    return _find(Path(name), (SUITES, Path()))


def names(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of a folder's experiments, then of its suites."""
    for place in (Path(), SUITES):
        for file in sorted((folder / place).glob("*.toml")):
            yield (place / file.stem).as_posix(), file


@functools.cache
def domains() -> dict[str, str]:
    """The codes of the domains, with which experiments' names begin, and their environments."""
    files = sorted((library() / "domains").glob("*.toml"))
    return {file.stem: tomli.loads(read_text(file))["environment"]["id"] for file in files}


def grid(known: Iterable[str], method: str) -> dict[str, str]:
    """The experiment of a method on each domain that has one, among known names."""
    names = {code: f"{code}_{method}" for code in domains()}
    return {code: name for code, name in names.items() if name in known}


def nearest(name: str) -> str:
    """The remedy for a name that is not found: a method's or a domain's experiments, a similar
    name, or how to list all."""
    files = [file.name for file in Path().glob("*.toml")]
    known = [known for folder in (HERE, library()) for known, _ in names(folder)]
    if of_method := grid(known, name).values():
        return f"{name} is a method, with the experiments {', '.join(of_method)}"
    if name in domains():
        inside = dict.fromkeys(one for one in known if one.startswith(f"{name}_"))
        return f"{name} is the domain {domains()[name]}, with {', '.join(inside)}"
    similar = suggestion(name, (*files, *known))
    return similar if similar.startswith("did you") else "qamx list shows what a name can mean"


def _find(name: Path, places: tuple[Path, ...]) -> Path:
    if name.is_absolute() or ".." in name.parts or not name.name or os.path.isfile(name):
        return name
    file = name if name.suffix == ".toml" else name.with_name(f"{name.name}.toml")
    for place in places:
        own, packed = HERE / place / file, library() / place / file
        if os.path.isfile(own):
            with contextlib.suppress(OSError):  # reported when the file is read
                if os.path.isfile(packed) and own.read_bytes() != packed.read_bytes():
                    _note(f"{name}: takes {own}, which differs from the one that comes with qamx")
            return own
        if os.path.isfile(packed):
            return packed
    return name


@functools.cache
def _note(text: str) -> None:
    """Log a note, once a process."""
    logging.getLogger("qamx").warning("note: %s", text)


Model = TypeVar("Model", bound=BaseModel)

_DOTTED_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


class Override(NamedTuple):
    """A text `section.key=value`, and the origin that an error names."""

    text: str
    origin: str = "--set"


@dataclass
class ConfigTree:
    """Values by section, the origin of each key, and the problems so far.

    `bases` are the extended files. `partial` is set if a file of the experiment could not be read:
    a missing key may be there.
    """

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    bases: set[str] = field(default_factory=set)
    partial: bool = False

    def origin(self, key: Key) -> str:
        """The file or option in which a key, or the table around it, was last written."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, str(self.file))

    def complain(self, origin: str, key: str, text: str) -> None:
        """Add a problem."""
        self.problems.append(ConfigProblem(origin, key, text))

    def put(self, key: Key, value: Any, origin: str) -> None:
        """Write a value; a table is merged key by key."""
        self.origins[key] = origin
        *tables, last = key
        parent = self.values
        for depth, table in enumerate(tables, start=1):
            if table not in parent:
                parent[table] = {}
                self.origins[key[:depth]] = origin
            parent = parent[table]
        if isinstance(value, dict):
            if not isinstance(parent.get(last), dict):
                parent[last] = {}
            for name, inner in value.items():
                self.put((*key, name), inner, origin)
        else:
            parent[last] = value

    def remove(self, key: Key) -> None:
        """Remove a value, so that its default holds."""
        *tables, last = key
        parent = self.values
        for table in tables:
            parent = parent.get(table, {})
        parent.pop(last, None)


def gather(file: Path, overrides: Sequence[Override], seed: int | None) -> ConfigTree:
    """All values of an experiment, the later over the earlier: bases, file, overrides."""
    tree = ConfigTree(file)
    own = read_toml(tree, file, str(file), "")
    for path in _bases(tree, own.pop("extends", None)):
        _put_base(tree, path)
    for name, value in own.items():
        tree.put((name,), value, str(file))
    for override in overrides:
        _put_override(tree, override)
    if seed is not None:
        tree.put(("seed",), seed, "--seed")
    return tree


def validated(tree: ConfigTree, model: type[Model]) -> Model | None:
    """The validated settings of the tree's file; None, with problems added, if it is wrong."""
    table = read_toml(tree, tree.file, str(tree.file), "")
    if tree.problems:
        return None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        for problem in field_errors(error, model, table):
            tree.complain(str(tree.file), ".".join(problem.key), problem.text)
        return None


def read_toml(tree: ConfigTree, path: Path, named_by: str, key: str) -> dict[str, Any]:
    """A file's table; an empty one, with a problem added, where it cannot be read."""
    try:
        return tomli.loads(read_text(path))
    except tomli.TOMLDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        tree.complain(str(path), "", f"{where}: {error.msg}")
    except TextError as error:
        tree.complain(str(path), "", error.reason)
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        subject = f"found {show(str(path))}: " if key else ""
        tree.complain(named_by, key, subject + _unreadable(path, error, by_name=not key))
    tree.partial = True
    return {}


def _unreadable(path: Path, error: OSError | ValueError, by_name: bool) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    if by_name and path.parent in (Path(), SUITES):
        return f"no such file, nor an experiment of that name; {nearest(path.as_posix())}"
    if not os.path.isdir(path.parent):
        near = f"; {nearest(path.stem)}" if path.parts[0] == HERE.name else ""
        return f"no such file, nor a folder {show(str(path.parent))}{near}"
    near = [other.name for other in path.parent.glob("*.toml")]
    return "no such file" + (f"; {suggestion(path.name, near)}" if near else "")


def _bases(tree: ConfigTree, extends: object) -> list[Path]:
    """The files that `extends` names, relative to the file, else in the library."""
    names = [extends] if isinstance(extends, str) else extends
    if names is None:
        return []
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        example = '["domain.toml", "method.toml"]' if isinstance(names, list) else '"base.toml"'
        noun = "a list of paths" if isinstance(names, list) else "a path"
        text = f"found {show(extends)}; write {noun}, e.g. {example}"
        tree.complain(str(tree.file), "extends", text)
        tree.partial = True
        return []
    paths = {name: Path(os.path.normpath(tree.file.parent / name)) for name in names}
    return [
        library() / name if not os.path.isfile(path) and os.path.isfile(library() / name) else path
        for name, path in paths.items()
    ]


def _put_base(tree: ConfigTree, path: Path) -> None:
    origin = str(tree.file)
    base = read_toml(tree, path, origin, "extends")
    if "extends" in base:
        tree.complain(str(path), "extends", f"only one level: {origin} extends this file already")
        tree.partial = True
        del base["extends"]
    tree.bases.add(str(path))
    for name, value in base.items():
        tree.put((name,), value, str(path))


def _put_override(tree: ConfigTree, override: Override) -> None:
    """Apply `a.b=value`; an empty value removes the key."""
    dotted, equals, written = map(str.strip, override.text.partition("="))
    key = tuple(dotted.split("."))
    if not equals or not _DOTTED_KEY.fullmatch(dotted):
        text = f"found {show(override.text)}; write section.key=value"
        tree.complain(override.origin, "", text)
    elif obstacle := _obstacle(tree, key):
        tree.complain(override.origin, dotted, obstacle)
    elif not written:
        tree.remove(key)
    else:
        try:
            tree.put(key, _value(written), override.origin)
        except tomli.TOMLDecodeError as error:
            text = f"found {written}, which is not TOML: {error.msg}"
            tree.complain(override.origin, dotted, text)


def _obstacle(tree: ConfigTree, key: Key) -> str:
    """The reason why an override cannot set a key, empty if it can."""
    if key == ("extends",):
        return "stands in the file alone; name another file instead"
    value: Any = tree.values
    for depth, name in enumerate(key[:-1], start=1):
        value = value.get(name, {})
        if not isinstance(value, dict):
            return f"{'.'.join(key[:depth])} is {show(value)}, not a table; set it as a whole"
    return ""


def _value(written: str) -> Any:
    """A TOML value; a bare word is a string."""
    try:
        table = tomli.loads(f"value = {written}")
    except tomli.TOMLDecodeError:
        if written[0] in "[{\"'":
            raise
        return written
    return table["value"] if len(table) == 1 else written

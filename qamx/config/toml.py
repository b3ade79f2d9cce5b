"""Reading an experiment's TOML: the file, the one it extends, and what is set over them.

The result is one tree of values that remembers where each came from.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from qamx._utils.files import TextError, read_text
from qamx.config.library import HERE, SUITES, library, nearest
from qamx.config.messages import ConfigProblem, Key, field_errors, show
from qamx.errors import suggestion

Model = TypeVar("Model", bound=BaseModel)

_DOTTED_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


class Override(NamedTuple):
    """A text `section.key=value`, and what it is laid to if it is wrong."""

    text: str
    origin: str = "--set"


@dataclass
class ConfigTree:
    """Values by section, the origin of each key, and what could not be read.

    `partial` says that a file of the experiment could not be read, so that what is absent
    here may well be written there.
    """

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    partial: bool = False

    def origin(self, key: Key) -> str:
        """Where a key, or the table around it, was last written."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, str(self.file))

    def complain(self, origin: str, key: str, text: str) -> None:
        """Notes a problem."""
        self.problems.append(ConfigProblem(origin, key, text))

    def put(self, key: Key, value: Any, origin: str) -> None:
        """Writes a value, a table key by key over the one that is there."""
        self.origins[key] = origin
        *tables, last = key
        place = self.values
        for depth, table in enumerate(tables, start=1):
            if table not in place:
                place[table] = {}
                self.origins[key[:depth]] = origin
            place = place[table]
        if isinstance(value, dict):
            if not isinstance(place.get(last), dict):
                place[last] = {}
            for name, inner in value.items():
                self.put((*key, name), inner, origin)
        else:
            place[last] = value

    def remove(self, key: Key) -> None:
        """Takes a value out, so that its default holds."""
        *tables, last = key
        place = self.values
        for table in tables:
            place = place.get(table, {})
        place.pop(last, None)


def gather(file: Path, overrides: Sequence[Override], seed: int | None) -> ConfigTree:
    """Everything that an experiment says, the later over the earlier: base, file, overrides."""
    tree = ConfigTree(file)
    own = read_toml(tree, file, str(file), "")
    extends = own.pop("extends", None)
    if extends is not None:
        _put_base(tree, extends)
    for name, value in own.items():
        tree.put((name,), value, str(file))
    for override in overrides:
        _put_override(tree, override)
    if seed is not None:
        tree.put(("seed",), seed, "--seed")
    return tree


def validated(tree: ConfigTree, model: type[Model]) -> Model | None:
    """The settings in the tree's file by themselves; None, with the problems noted, if wrong."""
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
    """A file's table; an empty one, with a problem noted, where it cannot be read."""
    import tomli

    try:
        return tomli.loads(read_text(path))
    except tomli.TOMLDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        tree.complain(str(path), "", f"{where}: {error.msg}")
    except TextError as error:
        tree.complain(str(path), "", error.reason)
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        subject = f"found {show(str(path))}: " if key else ""
        by_name = not key and path.parent in (Path(), SUITES)
        said = _unknown(path, error) if by_name else _unreadable(path, error)
        tree.complain(named_by, key, subject + said)
    tree.partial = True
    return {}


def _unknown(name: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, FileNotFoundError):
        return _unreadable(name, error)
    return f"no such file, nor an experiment of that name; {nearest(name.as_posix())}"


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    if not os.path.isdir(path.parent):
        near = f"; {nearest(path.stem)}" if path.parts[0] == HERE.name else ""
        return f"no such file, nor a folder {show(str(path.parent))}{near}"
    near = [other.name for other in path.parent.glob("*.toml")]
    return "no such file" + (f"; {suggestion(path.name, near)}" if near else "")


def _put_base(tree: ConfigTree, extends: object) -> None:
    origin = str(tree.file)
    if not isinstance(extends, str):
        tree.complain(origin, "extends", f'found {show(extends)}; write a path, e.g. "base.toml"')
        tree.partial = True
        return
    path = Path(os.path.normpath(tree.file.parent / extends))
    if not os.path.isfile(path) and os.path.isfile(library() / extends):
        path = library() / extends
    base = read_toml(tree, path, origin, "extends")
    if "extends" in base:
        tree.complain(str(path), "extends", f"only one level: {origin} extends this file already")
        tree.partial = True
        del base["extends"]
    for name, value in base.items():
        tree.put((name,), value, str(path))


def _put_override(tree: ConfigTree, override: Override) -> None:
    """Applies `a.b=value`; an empty value takes the key out."""
    dotted, equals, written = override.text.partition("=")
    if not equals or not _DOTTED_KEY.fullmatch(dotted.strip()):
        text = f"found {show(override.text)}; write section.key=value"
        tree.complain(override.origin, "", text)
        return
    key = tuple(dotted.strip().split("."))
    obstacle = _obstacle(tree, key)
    if obstacle:
        tree.complain(override.origin, ".".join(key), obstacle)
    elif not written.strip():
        tree.remove(key)
    else:
        _put_written(tree, key, written.strip(), override.origin)


def _obstacle(tree: ConfigTree, key: Key) -> str:
    """Why an override cannot set a key, if it cannot."""
    if key == ("extends",):
        return "stands in the file alone; name another file instead"
    place: Any = tree.values
    for depth, name in enumerate(key[:-1], start=1):
        place = place.get(name, {})
        if not isinstance(place, dict):
            return f"{'.'.join(key[:depth])} is {show(place)}, not a table; set it as a whole"
    return ""


def _put_written(tree: ConfigTree, key: Key, written: str, origin: str) -> None:
    import tomli

    try:
        tree.put(key, _value(written), origin)
    except tomli.TOMLDecodeError as error:
        tree.complain(origin, ".".join(key), f"found {written}, which is not TOML: {error.msg}")


def _value(written: str) -> Any:
    """A TOML value; a word that is none stands for itself."""
    import tomli

    try:
        table = tomli.loads(f"value = {written}")
    except tomli.TOMLDecodeError:
        if written[0] in "[{\"'":
            raise
        return written
    return table["value"] if len(table) == 1 else written

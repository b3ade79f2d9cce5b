"""Experiments and suites by name: in `experiments/`, or packaged with qamx."""

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

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


def nearest(name: str) -> str:
    """The remedy for a name that is not found: a similar one, or how to list all."""
    files = [file.name for file in Path().glob("*.toml")]
    known = [known for folder in (HERE, library()) for known, _ in names(folder)]
    similar = suggestion(name, (*files, *known))
    return similar if similar.startswith("did you") else "qamx list shows what a name can mean"


def _find(name: Path, places: tuple[Path, ...]) -> Path:
    if name.is_absolute() or ".." in name.parts or not name.name or os.path.isfile(name):
        return name
    file = name if name.suffix == ".toml" else name.with_name(f"{name.name}.toml")
    for place in places:
        own, packed = HERE / place / file, library() / place / file
        if os.path.isfile(own):
            if os.path.isfile(packed) and _differ(own, packed):
                _note(f"{name}: takes {own}, which differs from the one that comes with qamx")
            return own
        if os.path.isfile(packed):
            return packed
    return name


def _differ(own: Path, packed: Path) -> bool:
    try:
        return own.read_bytes() != packed.read_bytes()
    except OSError:  # reported when the file is read
        return False


@functools.cache
def _note(text: str) -> None:
    """Log a note, once a process."""
    logging.getLogger("qamx").warning("note: %s", text)

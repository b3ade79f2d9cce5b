"""Experiments and suites by name: those of `experiments/` here, and those that come with qamx."""

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from qamx.errors import suggestion

HERE = Path("experiments")
"""The folder of experiments of one's own, from the current directory."""

SUITES = Path("suites")
"""Where suites are, in a folder of experiments."""


def library() -> Path:
    """The folder of the experiments that come with qamx: in the package, or in a clone beside it.

    A wheel has them as `qamx/_experiments`; a clone has them at its top level, where they are kept.
    """
    package = Path(__file__).parents[1]
    packed = package / "_experiments"
    return packed if packed.is_dir() else package.parent / "experiments"


def find_experiment(name: str | Path) -> Path:
    """The file that a path or a name means: `c4_qam_edit`, or a suite's where no experiment has it.

    A path to a file means that file. Another one, with or without `.toml`, is looked for in
    `experiments/` of the current directory, then among the experiments that come with qamx; a note
    says so where both have it and differ. What is in none of them is given back as it is.
    """
    return _find(Path(name), (Path(), SUITES))


def find_suite(name: str | Path) -> Path:
    """As `find_experiment`, where suites come first: `table1` and `suites/table1` are one."""
    return _find(Path(name), (SUITES, Path()))


def names(folder: Path) -> Iterator[tuple[str, Path]]:
    """The names of a folder's experiments, then of its suites, each with its file."""
    for place in (Path(), SUITES):
        for file in sorted((folder / place).glob("*.toml")):
            yield (place / file.stem).as_posix(), file


def nearest(name: str) -> str:
    """What may be meant by a name that is not found, as a message goes on."""
    files = [file.name for file in Path().glob("*.toml")]
    known = [known for folder in (HERE, library()) for known, _ in names(folder)]
    said = suggestion(name, (*files, *known))
    return said if said.startswith("did you mean") else "qamx list shows what a name can mean"


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
    except OSError:  # which is said when the file is read
        return False


@functools.cache
def _note(text: str) -> None:
    """A note, once a process."""
    logging.getLogger("qamx").warning("note: %s", text)

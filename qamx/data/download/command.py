"""`qamx data download`: data sets from OGBench's server, fetched once and verified ever after."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from qamx._utils.machine import side_by_side
from qamx.data.download.arrival import Damaged, check_arrival
from qamx.data.download.errand import Errand
from qamx.data.download.hashes import PUBLISHED, Record, changed, read_records, what_now
from qamx.data.download.origin import alternative, refuse_generated
from qamx.data.download.patience import Patience
from qamx.data.download.probe import readable
from qamx.data.download.progress import open_console
from qamx.data.download.table import (
    NotOffered,
    RemoteSet,
    addresses,
    elsewhere,
    near_names,
    remote_set,
)
from qamx.data.download.transfer import Absent, ServerTrouble
from qamx.data.download.workplace import Unfinished, Workplace
from qamx.data.generate.places import default_directory
from qamx.errors import UserError

JOBS = 4
"""Files at a time."""


def download(
    names: Sequence[str],
    *,
    directory: Path | None = None,
    shards: int | None = None,
    jobs: int = JOBS,
    mirror: str | None = None,
    again: bool = False,
    patience: Patience | None = None,
    progress: bool = True,
) -> list[Path]:
    """Downloads OGBench data sets, and verifies the files that are there.

    What has arrived is kept through failures and interruptions, and the same call goes on from
    there. The hash of each file is recorded in `hashes.json` when it is first seen, and compared
    from then on.

    **Arguments:**

    - `names`: OGBench's, with or without `-v0`; `cube-double-play-100m` is a folder of shards.
    - `directory`: by default `$QAMX_DATA`, else `~/.ogbench/data`.
    - `shards`: the first so many training files of a folder, with their validation files.
    - `jobs`: files at a time.
    - `mirror`: the address of a folder that has the files; by default `$QAMX_MIRROR`, else
        OGBench's server and, where that fails, a public copy of it.
    - `again`: fetch files that are there anew, and record what arrives.
    - `patience`: time limits and attempts.
    - `progress`: whether to show what is going on.

    **Returns:** the files, training before validation, shard by shard.

    **Raises:** `UserError` with what to do: an unknown name, a file that was generated here or is
    not what it was when it was recorded, a server that does not have it, fails or is out of reach,
    a disk without room.
    """
    if jobs < 1:
        raise UserError(f"--jobs: found {jobs}; write a positive integer, e.g. {JOBS}")
    console, say = open_console(progress)
    place = Workplace(default_directory() if directory is None else directory.expanduser())
    sets = list(dict.fromkeys(_offered(name, shards, place.directory) for name in names))
    errand = Errand(addresses(mirror), place, jobs, patience or Patience(), say)
    files = [file for one in sets for file in one.files]
    there = [file for file in files if (place.directory / file).exists()]
    for file in there:
        refuse_generated(place.directory / file)
    if not again:
        _verify(errand, there)
    if again or len(there) < len(files):
        _bring(errand, sets, shards, again, console)
    return [place.directory / file for file in files]


def _bring(
    errand: Errand, sets: Sequence[RemoteSet], shards: int | None, again: bool, console: object
) -> None:
    """Fetches what is missing, or everything again, while no other process does."""
    place, names = errand.place, [one.name for one in sets]
    with place.alone(names, errand.say), _saying_what_is_left(errand, names):
        # Another process may have fetched some meanwhile.
        files = [file for one in sets for file in one.files]
        needs = errand.ask([one for one in files if again or not (place.directory / one).exists()])
        for name in names:
            place.note(name, shards)
        # A named mirror is taken at its word the first time.
        published = {} if len(errand.servers) == 1 else PUBLISHED
        known = {} if again else {**published, **read_records(place.directory)}
        errand.fetch(needs, known, console)
        for name in names:
            place.strike(name)


def unfinished(name: str, directory: Path) -> Unfinished | None:
    """What a download of this set that was stopped, or is under way, is to bring."""
    return Workplace(directory).noted(name)


def _offered(name: str, shards: int | None, directory: Path) -> RemoteSet:
    try:
        return remote_set(name, shards)
    except NotOffered as error:
        raise UserError(f"{error}. {alternative(name, directory)}") from error


def _verify(errand: Errand, files: Sequence[str]) -> None:
    """Compares files with their records, and records those that have none.

    **Raises:** `UserError` listing those that have changed.
    """
    directory = errand.place.directory
    records = read_records(directory)

    def look(file: str) -> str | None:
        found = Record.of(directory / file, "found in the data directory")
        known = records.get(file)
        if known is None:
            _sound(directory / file)
            errand.keep(file, found)
            errand.say(f"{directory / file}: recorded as it is, {found}")
        elif not found.same_as(known):
            return changed(directory / file, known, found)
        else:
            errand.say(f"{directory / file}: ok, {readable(found.size)}, as recorded")
        return None

    problems = [one for one in side_by_side(look, files, errand.jobs, errand.stop) if one]
    if problems:
        raise UserError("\n".join([*problems, what_now(directory, "--again")]))


def _sound(path: Path) -> None:
    try:
        check_arrival(path, str(path))
    except Damaged as error:
        raise UserError(f"{error}; remove it, or fetch the set anew with --again") from error


@contextlib.contextmanager
def _saying_what_is_left(errand: Errand, names: Sequence[str]) -> Iterator[None]:
    """Says of a failure what is kept, and what else can be done."""
    try:
        yield
    except (UserError, OSError) as error:
        said = str(error)
        absent = [name for name in names if isinstance(error, Absent) and name in said]
        others = dict.fromkeys(alternative(name, errand.place.directory) for name in names)
        where = [elsewhere(errand.servers, names)] if isinstance(error, ServerTrouble) else []
        lines = [said, *map(near_names, absent), *where, errand.place.kept(), *others]
        raise UserError("\n".join(lines)) from error
    except KeyboardInterrupt:
        errand.say(errand.place.kept())
        raise

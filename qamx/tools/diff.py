"""`qamx diff`: the differing settings of two runs, and the first difference of their logs."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qamx._utils.files import read_json_lines
from qamx._utils.terminal import letters, print_table
from qamx.config.experiment import flat
from qamx.provenance import read

ABSENT = "-"
"""The value of a missing key."""


class DifferingFact(NamedTuple):
    """A setting or version that differs: its kind, its key, and both values."""

    kind: str
    key: str
    one: str
    other: str


class FirstDifference(NamedTuple):
    """The first row in which two records differ."""

    step: int
    phase: str
    keys: tuple[str, ...]
    one: Any
    other: Any


def diff(one: Path, other: Path) -> int:
    """Prints the differences of two runs; returns 0 if there are none, else 1.

    **Raises:** `UserError` if a folder holds no run.
    """
    facts = differences(one, other)
    names = letters([str(one), str(other)]).values()
    if facts:
        print_table("different settings, data and versions", ("", "", *names), facts)
    firsts = {name: first_difference(one / name, other / name) for name in RECORDS}
    rows = [_difference_row(name, first) for name, first in firsts.items() if first]
    if rows:
        print_table("first difference of their logs", ("", "at", *names), rows)
    files = [directory / "evaluations.jsonl" for directory in (one, other)]
    mine, theirs = ((read_json_lines(file) or [{}])[-1] for file in files)
    last = [(k, str(mine.get(k, ABSENT)), str(theirs.get(k, ABSENT))) for k in mine | theirs]
    if last and firsts["evaluations.jsonl"]:
        print_table("their last evaluations", ("", *names), last)
    print(VERDICTS[bool(facts), bool(rows)])
    return 1 if facts or rows else 0


VERDICTS = {
    (True, True): "the runs differ",
    (True, False): "the runs were given different things and recorded the same numbers",
    (False, True): "the runs were given the same and recorded different numbers",
    (False, False): "the runs are equal",
}
"""The last line, by differences of facts and of records."""

RECORDS = ("metrics.jsonl", "evaluations.jsonl")


def differences(one: Path, other: Path) -> list[DifferingFact]:
    """The differing facts in the passports of two runs.

    **Raises:** `UserError` if a passport is missing or damaged.
    """
    mine, theirs = (_facts(read(directory)) for directory in (one, other))
    keys = dict.fromkeys((*mine, *theirs))
    pairs = ((key, mine.get(key, ABSENT), theirs.get(key, ABSENT)) for key in keys)
    return [DifferingFact(*key, first, second) for key, first, second in pairs if first != second]


def first_difference(one: Path, other: Path) -> FirstDifference | None:
    """The first row in which two files of JSON lines differ, or None.

    **Raises:** `UserError` if a line is not JSON.
    """
    for first, second in itertools.zip_longest(*map(read_json_lines, (one, other)), fillvalue={}):
        keys = [k for k in first | second if repr(first.get(k)) != repr(second.get(k))]
        if keys:
            earlier = min((row for row in (first, second) if row), key=lambda row: row["step"])
            differing = ("step",) if "step" in keys else tuple(keys)
            values = (row.get(differing[0], ABSENT) for row in (first, second))
            return FirstDifference(earlier["step"], earlier["phase"], differing, *values)
    return None


def _facts(passport: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The facts of a passport by kind and key, without times."""
    starts = passport["starts"]
    config = flat(passport["config"])
    for start in starts:
        config |= start["changes"]
    facts = {("config", key): json.dumps(value) for key, value in config.items()}
    for index, file in enumerate(passport["data"]):
        facts["data", Path(file["file"]).name or str(index)] = f"SHA-256 {file['sha256'][:16]}"
    for key, value in flat(passport["seeds"]).items():
        facts["seeds", key] = str(value)
    facts["success", "read at"] = passport["success"]
    for kind in ("versions", "platform", "device", "flags", "jax"):
        for key in dict.fromkeys(itertools.chain(*(start[kind] for start in starts))):
            facts[kind, key] = _through(start[kind].get(key, ABSENT) for start in starts)
    facts["code", "commit"] = _through(start["commit"] or ABSENT for start in starts)
    return facts


def _through(values: Iterator[Any]) -> str:
    """A value at all starts of a run; successive ones if it changed."""
    return ", then ".join(str(value) for value, _ in itertools.groupby(values))


def _difference_row(name: str, first: FirstDifference) -> tuple[str, str, str, str]:
    where = f"step {first.step:,} ({first.phase})"
    if first.keys == ("step",):  # one has no row at that step
        steps = first.one, first.other
        one, other = ("a row" if step == first.step else "no row" for step in steps)
        return name, where, one, other
    key, *others = first.keys
    more = f" and {len(others)} more keys" if others else ""
    return name, f"{where}: {key}{more}", str(first.one), str(first.other)

"""What an inspection reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["refuse", "warn", "note"]

LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")
"""From what a run does not start with to what is good to know."""


@dataclass(frozen=True)
class Finding:
    """Something about a data set that whoever trains on it should know.

    **Arguments:**

    - `id`: a name for scripts, such as `actions-saturated`.
    - `level`: whether a run refuses the data, warns of it, or goes on without a word.
    - `found`: what was found, with numbers.
    - `effect`: what it would do to training.
    - `remedy`: what to do about it; empty where there is nothing to do.
    - `where`: the shard or file, where there are several.
    """

    id: str
    level: Level
    found: str
    effect: str
    remedy: str = ""
    where: str = ""

    def line(self, source: str) -> str:
        """The finding as one message about the source of that name."""
        place = ", ".join(filter(None, (source, self.where)))
        return f"{place}: {'; '.join(filter(None, (self.found, self.effect, self.remedy)))}"


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Findings from the gravest down; the first of an id and level stands for all of them."""
    kept: dict[tuple[str, str], Finding] = {}
    places: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        key = finding.id, finding.level
        kept.setdefault(key, finding)
        places.setdefault(key, []).append(finding.where)
    merged = [replace(finding, where=_joined(places[key])) for key, finding in kept.items()]
    return sorted(merged, key=lambda finding: LEVELS.index(finding.level))


def _joined(places: Sequence[str], most: int = 5) -> str:
    named = list(dict.fromkeys(filter(None, places)))
    rest = len(named) - most
    return ", ".join(named[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def listed(numbers: Iterable[int], most: int = 6) -> str:
    """Numbers as a reader likes them: `3, 5-7 and 12 more`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:most]]
    rest = sum(map(len, runs[most:]))
    return ", ".join(texts) + (f" and {rest} more" if rest else "")


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Findings of an inspection, and their wording."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["refuse", "warn", "note"]

LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")
"""Levels from the gravest down: a run refuses the data, warns, or says nothing."""

LEVEL_WORDS = {"refuse": "refused", "warn": "warning", "note": "note"}


@dataclass(frozen=True)
class Finding:
    """A fault or notable property of a data set or policy.

    **Arguments:**

    - `id`: a name for scripts, such as `actions-saturated`.
    - `level`: one of `LEVELS`.
    - `found`: the measurement, with numbers.
    - `effect`: the consequence for training.
    - `remedy`: the recommended action; empty if there is none.
    - `where`: the shard or file, if there are several.
    """

    id: str
    level: Level
    found: str
    effect: str
    remedy: str = ""
    where: str = ""

    def line(self, source: str) -> str:
        """The finding as one message about `source`."""
        place = ", ".join(filter(None, (source, self.where)))
        return f"{place}: {'; '.join(filter(None, (self.found, self.effect, self.remedy)))}"

    def paragraphs(self) -> Iterator[tuple[str, str]]:
        """Labelled texts: the measurement (without a label), effect and remedy."""
        yield "", ": ".join(filter(None, (self.where, self.found)))
        yield "effect", self.effect
        if self.remedy:
            yield "remedy", self.remedy


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by level; those of one id and level are merged, with all their places."""
    kept: dict[tuple[str, str], Finding] = {}
    places: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        key = finding.id, finding.level
        kept.setdefault(key, finding)
        places.setdefault(key, []).append(finding.where)
    merged = [replace(finding, where=joined(places[key])) for key, finding in kept.items()]
    return sorted(merged, key=lambda finding: LEVELS.index(finding.level))


def joined(places: Sequence[str], most: int = 5) -> str:
    """Different names: `a, b and 12 more`."""
    named = list(dict.fromkeys(filter(None, places)))
    rest = len(named) - most
    return ", ".join(named[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def listed(numbers: Iterable[int], most: int = 6) -> str:
    """Numbers with their ranges joined: `3, 5-7 and 12 more`."""
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

"""Whether what a page shows as output is what its commands print."""

import re
from pathlib import Path
from typing import Literal

Form = Literal["exact", "lines", "numbers", "words", "files", "nothing"]
"""How what is shown is compared.

`exact`: every line was printed, in this order; times and rates may differ.
`lines`: the same, in any order, and numbers may differ where they count the lines.
`numbers`: a line of the same words was printed for each; numbers and the computer's name may
differ, and how often.
`words`: a line with the same first word was printed for each.
`files`: the first word of each line is a file or folder below the first line's.
`nothing`: it is no output.
"""

_TIMES = re.compile(r"\d+ min|\d+(?:\.\d+)? s\b|\d[\d,]* steps/s|\d+ GB")
_COUNTED = re.compile(r"^\[\d+/\d+\] ")
_NUMBERS = re.compile(r"[\u2212+-]?\d[\d,.]*|(?<=; cpu on )[\w.-]+")


def check(shown: str, printed: str, form: Form, folder: Path) -> None:
    """Fails with the first line that is not so; `...` stands for any lines."""
    lines = [" ".join(line.split()) for line in shown.splitlines() if line.strip(" .")]
    there = [" ".join(line.split()) for line in printed.splitlines()]
    if form == "exact":
        rest = iter(there)
        for line in lines:
            pattern = _pattern(line, _TIMES)
            assert any(pattern.fullmatch(one) for one in rest), _missing(line, printed)
    elif form == "lines":
        unordered = {_COUNTED.sub("", one) for one in there}
        for line in lines:
            assert _COUNTED.sub("", line) in unordered, _missing(line, printed)
    elif form == "numbers":
        for line in lines:
            pattern = _pattern(line, _NUMBERS)
            assert any(pattern.fullmatch(one) for one in there), _missing(line, printed)
    elif form == "words":
        first = {one.partition(" ")[0] for one in there}
        for line in lines:
            assert line.partition(" ")[0] in first, _missing(line, printed)
    elif form == "files":
        for line in lines[1:]:
            file = folder / lines[0] / line.partition(" ")[0]
            assert file.exists(), f"{file} is shown"


def _pattern(line: str, free: re.Pattern[str]) -> re.Pattern[str]:
    """The line, with anything of the same kind in the place of what is free."""
    parts, end = [], 0
    for match in free.finditer(line):
        parts += [re.escape(line[end : match.start()]), f"(?:{free.pattern})"]
        end = match.end()
    return re.compile("".join([*parts, re.escape(line[end:])]))


def _missing(line: str, printed: str) -> str:
    return f"shown: {line}\nprinted:\n{printed}"

"""The pages of the documentation: their fenced blocks, with what they include in place."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'^--8<-- "([^":]+)(?::(\w+))?"$', re.MULTILINE)
TITLE = re.compile(r'title="([^"]+)"')


class Block(NamedTuple):
    """A fenced block of a page.

    **Arguments:** `title` is the file that the page says it is, `source` the file of the
    repository that the whole block is included from; None where there is none.
    """

    page: Path
    line: int
    language: str
    title: str | None
    source: Path | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS)}:{self.line}"

    def lines(self) -> list[str]:
        """The commands of a shell block, continued lines joined."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(line.split("  #")[0].split()) for line in joined if line.strip()]

    def commands(self) -> list[str]:
        """What is executed at a time: a line, or all lines where they are one script."""
        lines = self.lines()
        return ["\n".join(lines)] if any(line.startswith("if ") for line in lines) else lines


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in its order."""
    written = page.read_text()
    for match in FENCE.finditer(written):
        line = written.count("\n", 0, match.start()) + 1
        body = textwrap.dedent(match[4])
        title, include = TITLE.search(match[3]), INCLUDE.fullmatch(body.strip())
        yield Block(
            page,
            line,
            match[2],
            title[1] if title else None,
            ROOT / include[1] if include else None,
            INCLUDE.sub(_included, body),
        )


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in some languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def _included(match: re.Match[str]) -> str:
    """The file, or the section of a file, that an include names."""
    text = (ROOT / match[1]).read_text()
    if match[2] is None:
        return text
    section = re.search(
        rf"\[start:{match[2]}\]\n(.*?)^ *# --8<-- \[end:{match[2]}\]$",
        text,
        re.DOTALL | re.MULTILINE,
    )
    assert section, f"{match[1]} has no section {match[2]}"
    return textwrap.dedent(section[1])

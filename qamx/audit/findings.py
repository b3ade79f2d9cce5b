"""Findings, one below the other: what was found, what it means, what to do."""

import sys
from collections.abc import Iterator, Sequence
from textwrap import indent

from qamx.data.inspection import Finding

LEVEL_WORDS = {"refuse": "refused", "warn": "warning", "note": "note"}
STYLES = {"refuse": "bold red", "warn": "bold yellow", "note": "bold blue"}


def print_findings(findings: Sequence[Finding], header: str) -> None:
    """Prints findings; `header` says what a terminal's table has in it."""
    if sys.stdout.isatty():
        _print_rich(findings, header)
    else:
        _print_plain(findings)


def parts(finding: Finding) -> Iterator[tuple[str, str]]:
    """What is said of a finding, and under which heading."""
    yield "", ": ".join(filter(None, (finding.where, finding.found)))
    yield "effect", finding.effect
    if finding.remedy:
        yield "remedy", finding.remedy


def _print_plain(findings: Sequence[Finding]) -> None:
    print("findings")
    for finding in findings:
        print(f"  {LEVEL_WORDS[finding.level]}: {finding.id}")
        for heading, text in parts(finding):
            print(indent(f"{heading}: {text}" if heading else text, "    "))


def _print_rich(findings: Sequence[Finding], header: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="findings", title_justify="left", title_style="bold", show_lines=True)
    table.add_column("level", no_wrap=True)
    table.add_column(header, overflow="fold")
    for finding in findings:
        text = Text().append(finding.id, "bold")
        for heading, words in parts(finding):
            text.append("\n")
            text.append(f"{heading}: " if heading else "", "dim")
            text.append(words)
        table.add_row(Text(LEVEL_WORDS[finding.level], STYLES[finding.level]), text)
    Console().print(table)

"""The report on a terminal, and as plain text elsewhere."""

import sys
from collections.abc import Iterator
from textwrap import indent

from qamx.audit.data.inspector import Report
from qamx.audit.data.words import LEVEL_WORDS, TASK_HEADER, size_rows, task_rows, verdict
from qamx.audit.report import print_table
from qamx.data.inspection import Finding

STYLES = {"refuse": "bold red", "warn": "bold yellow", "note": "bold blue"}


def print_report(report: Report) -> None:
    """Prints what there is, what was found, and the verdict."""
    sizes = size_rows(report)
    if sizes:
        print_table(report.name, ("", ""), sizes)
    else:
        print(report.name)
    if report.rewards:
        print()
        print_table("rewards", TASK_HEADER, task_rows(report))
    if report.findings:
        print()
        (_print_rich if sys.stdout.isatty() else _print_plain)(report)
    print()
    print(verdict(report))


def parts(finding: Finding) -> Iterator[tuple[str, str]]:
    """What is said of a finding, and under which heading."""
    yield "", ": ".join(filter(None, (finding.where, finding.found)))
    yield "effect", finding.effect
    if finding.remedy:
        yield "remedy", finding.remedy


def _print_plain(report: Report) -> None:
    print("findings")
    for finding in report.findings:
        print(f"  {LEVEL_WORDS[finding.level]}: {finding.id}")
        for heading, text in parts(finding):
            print(indent(f"{heading}: {text}" if heading else text, "    "))


def _print_rich(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="findings", title_justify="left", title_style="bold", show_lines=True)
    table.add_column("level", no_wrap=True)
    table.add_column("what it is, what it does to training, what to do", overflow="fold")
    for finding in report.findings:
        text = Text().append(finding.id, "bold")
        for heading, words in parts(finding):
            text.append("\n")
            text.append(f"{heading}: " if heading else "", "dim")
            text.append(words)
        table.add_row(Text(LEVEL_WORDS[finding.level], STYLES[finding.level]), text)
    Console().print(table)

"""The report on a terminal, and as plain text elsewhere."""

from qamx._utils.terminal import print_findings, print_table
from qamx.audit.flow.checks import findings
from qamx.audit.flow.report import Report
from qamx.audit.flow.words import (
    READING_HEADER,
    reading_rows,
    stage_table,
    subject_rows,
    verdict,
)


def print_report(report: Report) -> None:
    """Prints what was looked at, what was found, and what is wrong."""
    print_table(str(report.subject.directory), ("", ""), subject_rows(report))
    print()
    print_table("actions", *stage_table(report))
    print()
    print_table("policy and critic", READING_HEADER, reading_rows(report))
    if findings(report):
        print()
        print_findings(findings(report), "what it is, what it does, what to do")
    print()
    print(verdict(report))

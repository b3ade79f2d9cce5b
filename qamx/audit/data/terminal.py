"""The report on a terminal, and as plain text elsewhere."""

from qamx._utils.terminal import print_findings, print_table
from qamx.audit.data.inspector import Report
from qamx.audit.data.words import TASK_HEADER, size_rows, task_rows, verdict


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
        print_findings(report.findings, "what it is, what it does to training, what to do")
    print()
    print(verdict(report))

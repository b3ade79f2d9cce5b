"""The command `qamx data inspect`."""

import json
from pathlib import Path

from qamx._utils.html import require_matplotlib, write_text
from qamx.audit.data.inspector import inspect
from qamx.audit.data.page import write_page
from qamx.audit.data.subject import Options, find_subject
from qamx.audit.data.terminal import print_report
from qamx.errors import ExitCode, UserError


def inspect_data(
    source: str,
    options: Options,
    *,
    shards: int | None = None,
    html: Path | None = None,
    file: Path | None = None,
    strict: bool = False,
) -> int:
    """Prints a report on a data source, and writes it as a page or as JSON.

    **Arguments:** `shards` is how many are looked at; `file` takes the JSON; with `strict`, a
    warning fails as well.

    **Returns:** 0 if a run would start with the data, else 1.

    **Raises:** `UserError` if the source cannot be opened.
    """
    _check(options, shards, html)
    report = inspect(find_subject(source, options), shards)
    print_report(report)
    if html is not None:
        write_page(report, html)
    if file is not None:
        write_text("--json", file, json.dumps(report.to_dict(), indent=2) + "\n")
    failed = report.count("refuse") or (strict and report.count("warn"))
    return ExitCode.FAILED if failed else ExitCode.DONE


def _check(options: Options, shards: int | None, html: Path | None) -> None:
    """Refuses what can be refused before the data is read."""
    for name, number in (("--shards", shards), ("--horizon", options.horizon)):
        if number is not None and number < 1:
            raise UserError(f"{name}: found {number}; write a positive integer")
    if html is not None:
        require_matplotlib("--html")

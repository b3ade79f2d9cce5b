"""The command `qamx inspect`."""

import json
from collections.abc import Sequence
from pathlib import Path

from qamx._utils.html import require_matplotlib, write_text
from qamx._utils.machine import use_cpu
from qamx._utils.seeds import check_seed
from qamx.audit.flow.numbers import numbers
from qamx.audit.flow.page import write_page
from qamx.audit.flow.report import inspect
from qamx.audit.flow.subject import find_subject
from qamx.audit.flow.terminal import print_report
from qamx.errors import ExitCode, UserError


def inspect_run(
    directory: Path,
    *,
    flow: bool,
    where: Sequence[str],
    states: int,
    samples: int,
    seed: int,
    out: Path | None,
    file: Path | None,
) -> int:
    """Prints a report on a run's policy, and with `flow` writes its figures as a page.

    **Arguments:** `where` names the states, or is empty for `states` of them; `out` is the
    page's folder, beside the run's by default; `file` takes all numbers as JSON.

    **Raises:** `UserError` if the run cannot be read, or an option is wrong.
    """
    _check(flow, states, samples, seed, out)
    use_cpu()
    subject = find_subject(directory)
    out = out or directory.resolve().with_name(f"{directory.resolve().name}-inspect")
    report = inspect(subject, where, states, samples, seed)
    print_report(report)
    if file is not None:
        write_text("--json", file, json.dumps(numbers(report)) + "\n")
    if flow:
        print(f"figures: {write_page(report, out)}")
    return ExitCode.DONE


def _check(flow: bool, states: int, samples: int, seed: int, out: Path | None) -> None:
    check_seed("--seed", seed)
    limits = ("--states", states, 1), ("--samples", samples, 2)
    for name, number, least in limits:
        if number < least:
            raise UserError(f"{name}: found {number}; write an integer of at least {least}")
    if flow:
        require_matplotlib("--flow")
    elif out is not None:
        raise UserError("--out: there are no figures to write without --flow")

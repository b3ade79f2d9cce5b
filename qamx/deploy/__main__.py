"""`python -m qamx.deploy FOLDER`: checks an exported policy on this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qamx.errors import ExitCode, UserError, exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Compares an exported policy's actions with the recorded ones, and times a chunk."""
    parser = argparse.ArgumentParser(prog="python -m qamx.deploy", description=main.__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what qamx export wrote")
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="default: 200")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _check(arguments.folder, arguments.calls))


def _check(folder: Path, calls: int) -> int:
    from qamx.deploy.check import check

    if calls < 1:
        raise UserError(f"--calls: found {calls}; write a positive integer")

    result = check(folder, calls)
    same = "bitwise the recorded ones" if result.bitwise else f"within {result.difference:.1e}"
    verdict = "" if result.passed else f": more than {result.tolerance:.0e}, do not use it here"
    latency = result.latency
    sys.stdout.write(
        f"actions    {same} ({result.rows} observations){verdict}\n"
        f"a chunk    median {latency.median_ms:.2f} ms, 99% {latency.p99_ms:.2f} ms\n"
        f"first call {latency.first_s:.1f} s\n"
    )
    return ExitCode.DONE if result.passed else ExitCode.FAILED


if __name__ == "__main__":
    raise SystemExit(main())

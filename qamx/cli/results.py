"""Commands on many runs and on the machine: sweep, status, report, compare, plan, diff, doctor
and bench."""

from pathlib import Path
from typing import Any

from qamx.cli.options import (
    Subparsers,
    add_command,
    add_folders,
    add_integers,
    add_json,
    add_overrides,
    add_path,
    add_run,
)


def add_sweep(commands: Subparsers) -> None:
    """`qamx sweep`."""
    summary = "train every run of a suite, here or on Slurm; again: resume"
    parser = add_command(commands, "sweep", summary, _sweep)
    parser.add_argument(
        "suite", type=Path, metavar="SUITE", help="a suite, TOML, or a name such as table1"
    )
    add_overrides(parser)
    add_path(parser, "out", "the sweep's folder (default: runs/SUITE)", "DIR")
    parser.add_argument(
        "--on",
        choices=("local", "slurm"),
        default="local",
        help="where its processes run (default: local)",
    )
    add_path(parser, "cluster", "what a job gets and holds, TOML", "FILE")
    add_integers(parser, ("jobs", None, "local processes at a time (default: one a GPU)"))
    parser.add_argument(
        "--dry-run", action="store_true", help="print jobs and estimated GPU hours, start nothing"
    )
    select = "of a complete tuning suite, write the suite of the best settings to FILE"
    add_path(parser, "select", select, "FILE")


def _sweep(
    suite: Path, cluster: Path | None, dry_run: bool, select: Path | None, **options: Any
) -> int:
    from qamx.tools.sweep.sweep import sweep

    return sweep(suite, cluster_file=cluster, dry=dry_run, selected=select, **options)


def add_status(commands: Subparsers) -> None:
    """`qamx status`."""
    summary = "show the progress of runs, and the last message of failed ones"
    parser = add_command(commands, "status", summary, _status)
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="DIR",
        help="of a run, a sweep, or several (default: runs)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _status(directory: Path, json: bool) -> int:
    from qamx.tools.sweep.status import status

    return status(directory, json)


def add_report(commands: Subparsers) -> None:
    """`qamx report`."""
    summary = "tables, curves and figures of runs, with intervals"
    parser = add_command(commands, "report", summary, _report)
    add_folders(parser, "DIR")
    add_path(parser, "out", "write HTML, Markdown, LaTeX, CSV, figures there", "FOLDER")
    add_integers(parser, ("step", None, "report this step (default: the end of each phase)"))
    parser.add_argument(
        "--no-figures", dest="figures", action="store_false", help="write tables alone"
    )


def _report(**options: Any) -> int:
    from qamx.tools.results.report import report

    return report(**options)


def add_compare(commands: Subparsers) -> None:
    """`qamx compare`."""
    summary = "test runs against the published figures, or against other runs"
    parser = add_command(commands, "compare", summary, _compare)
    add_folders(parser, "RUN")
    parser.add_argument(
        "--against",
        metavar="published|DIR",
        help="the other side (default: of two folders the second, else the published figures)",
    )
    add_integers(parser, ("step", None, "compare at this step (default: the last that all share)"))
    add_path(parser, "out", "write table and curves there", "FOLDER")


def _compare(**options: Any) -> int:
    from qamx.tools.results.compare import compare

    return compare(**options)


def add_plan(commands: Subparsers) -> None:
    """`qamx plan`."""
    summary = "compute the seeds that tell two published methods apart, and their cost"
    parser = add_command(commands, "plan", summary, _plan)
    parser.add_argument("methods", nargs=2, metavar="METHOD", help="such as qam_edit fql")
    parser.add_argument(
        "--domain", required=True, metavar="NAME", help="such as cube-double-play, or all"
    )
    parser.add_argument(
        "--power", type=float, default=0.8, metavar="P", help="of a 5%% test (default: 0.8)"
    )
    add_integers(
        parser,
        ("episodes", 50, "of an evaluation (default: 50)"),
        ("step", 1_000_000, "of the published figures (default: 1000000, the offline end)"),
    )
    parser.add_argument(
        "--hours", type=float, default=3.0, metavar="H", help="a run on a GPU (default: 3, A5000)"
    )


def _plan(**options: Any) -> int:
    from qamx.tools.results.power import plan

    return plan(**options)


def add_diff(commands: Subparsers) -> None:
    """`qamx diff`."""
    parser = add_command(
        commands, "diff", "explain why two runs differ, and since which step", _diff
    )
    add_run(parser, "one", "other")


def _diff(**options: Any) -> int:
    from qamx.tools.diff import diff

    return diff(**options)


def add_doctor(commands: Subparsers) -> None:
    """`qamx doctor`."""
    add_command(commands, "doctor", "report what this machine lacks, with remedies", _doctor)


def _doctor() -> int:
    from qamx.tools.doctor import doctor

    return doctor()


def add_bench(commands: Subparsers) -> None:
    """`qamx bench`."""
    summary = "measure what a method's updates cost here, on random data"
    parser = add_command(commands, "bench", summary, _bench)
    parser.add_argument(
        "--method",
        dest="methods",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="default: two",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: what JAX finds")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[1, 2, 4, 8, 12],
        metavar="N",
        help="seeds side by side in one program (default: 1 2 4 8 12)",
    )
    parser.add_argument(
        "--size",
        choices=("paper", "quickstart", "tiny"),
        help="of networks and batches (default: quickstart on a CPU, else paper)",
    )
    parser.add_argument(
        "--precision", choices=("tf32", "float32", "bfloat16"), default="tf32", help="as [compute]"
    )
    add_integers(
        parser,
        ("observation", None, "entries of an observation (default: the size's)"),
        ("action", None, "entries of an action (default: the size's)"),
        ("updates", None, "updates in a timed call (default: by size)"),
        ("rounds", 5, "the shortest counts (default: 5)"),
    )
    add_json(parser, "all figures")


def _bench(json: Path | None, **options: Any) -> int:
    from qamx.tools.bench import bench

    return bench(file=json, **options)

"""Commands on many runs and on the machine: sweep, status, watch, report, compare, plan, diff,
doctor and bench."""

from pathlib import Path

from qamx.cli.options import Subparsers, add_command


def add_sweep(commands: Subparsers) -> None:
    summary = "run a suite locally or on Slurm; run again to resume"
    parser = add_command(commands, "sweep", summary, "qamx.tools.sweep.sweep:sweep")
    parser.path("file", "SUITE", "a suite, TOML, or a name such as table1")
    parser.overrides()
    parser.path("--out", "DIR", "the sweep's folder (default: runs/SUITE)")
    on = "where its processes run (default: local)"
    parser.choice("--on", ("local", "slurm"), on, default="local")
    parser.path("--cluster", "FILE", "Slurm resources of a job, TOML", dest="cluster_file")
    parser.integers(("--jobs", None, "local processes at a time (default: one a GPU)"))
    parser.flag("--dry-run", "print jobs and estimated GPU hours, start nothing", dest="dry")
    parser.flag("--verbose", "with --dry-run: every job, not the first three alone")
    select = "of a complete tuning suite, write the suite of the best settings to FILE"
    parser.path("--select", "FILE", select, dest="selected")


def add_status(commands: Subparsers) -> None:
    summary = "show progress, and the last log lines of failed runs"
    parser = add_command(commands, "status", summary, "qamx.tools.sweep.status:status")
    directory = "of a run, a sweep, or several (default: runs)"
    parser.path("directory", "DIR", directory, nargs="?", default=Path("runs"))
    parser.flag("--json", "print it as JSON", dest="as_json")


def add_watch(commands: Subparsers) -> None:
    summary = "serve a page on localhost with the curves of runs while they train"
    parser = add_command(commands, "watch", summary, "qamx.tools.watch:watch")
    parser.path("folders", "DIR", "runs, or folders with runs in them", nargs="+")
    parser.integers(("--port", 8600, "of the page, 0 for any that is free (default: 8600)"))


def add_report(commands: Subparsers) -> None:
    summary = "tables, curves and figures of runs, with intervals"
    parser = add_command(commands, "report", summary, "qamx.tools.results.report:report")
    parser.path("folders", "DIR", "runs, or folders with runs in them", nargs="+")
    parser.path("--out", "FOLDER", "write HTML, Markdown, LaTeX, CSV, figures there")
    evaluations = "write every evaluation of every run there, a row each"
    parser.path("--csv", "FILE", evaluations, dest="csv_file")
    parser.integers(("--step", None, "report this step (default: the end of each phase)"))
    highlight = "draw these in colour, the others grey"
    parser.add_argument("--highlight", nargs="+", default=(), metavar="METHOD", help=highlight)
    tables = "write tables alone"
    parser.add_argument("--no-figures", dest="figures", action="store_false", help=tables)


def add_compare(commands: Subparsers) -> None:
    summary = "test runs against the published figures, or against other runs"
    parser = add_command(commands, "compare", summary, "qamx.tools.results.compare:compare")
    parser.path("folders", "RUN", "runs, or folders with runs in them", nargs="+")
    against = "the other side (default: of two folders the second, else the published figures)"
    parser.add_argument("--against", metavar="published|DIR", help=against)
    parser.integers(("--step", None, "compare at this step (default: the last that all share)"))
    parser.path("--out", "FOLDER", "write table and curves there")


def add_plan(commands: Subparsers) -> None:
    summary = "power analysis: seeds and GPU hours of a comparison"
    parser = add_command(commands, "plan", summary, "qamx.tools.results.power:plan")
    parser.add_argument("methods", nargs=2, metavar="METHOD", help="such as qam_edit fql")
    domain = "such as cube-double-play or its code c2, or all"
    parser.add_argument("--domain", required=True, metavar="NAME", help=domain)
    power = "of a 5%% test (default: 0.8)"
    parser.add_argument("--power", type=float, default=0.8, metavar="P", help=power)
    parser.integers(
        ("--episodes", 50, "of an evaluation (default: 50)"),
        ("--step", 1_000_000, "of the published figures (default: 1000000, the offline end)"),
    )
    hours = "a run on a GPU (default: 3, A5000)"
    parser.add_argument("--hours", type=float, default=3.0, metavar="H", help=hours)


def add_diff(commands: Subparsers) -> None:
    summary = "compare config, data and logs of two runs: where they diverge"
    add_command(commands, "diff", summary, "qamx.tools.diff:diff").run_folders("one", "other")


def add_doctor(commands: Subparsers) -> None:
    summary = "check this machine's setup, and suggest fixes"
    add_command(commands, "doctor", summary, "qamx.tools.doctor:doctor")


def add_bench(commands: Subparsers) -> None:
    summary = "benchmark training speed on this machine"
    parser = add_command(commands, "bench", summary, "qamx.tools.bench:bench")
    parser.several("--method", "NAME", "default: two", dest="methods")
    parser.device(dest="device")
    chip = "count kernels of a GPU that is not there: h100, or a target file of XLA"
    parser.add_argument("--for", dest="target", metavar="CHIP", help=chip)
    seeds = "seeds side by side in one program (default: 1 2 4 8 12; with --for 1)"
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help=seeds)
    size = "of networks and batches (default: paper with --for or on a GPU, else quickstart)"
    parser.choice("--size", ("paper", "quickstart", "tiny"), size)
    precisions = ("tf32", "float32", "bfloat16")
    parser.choice("--precision", precisions, "as [compute]", default="tf32")
    parser.integers(
        ("--observation", None, "dimensions of an observation (default: the size's)"),
        ("--action", None, "dimensions of an action (default: the size's)"),
        ("--updates", None, "updates in a timed call (default: by size)"),
        ("--rounds", 5, "timing rounds, of which the fastest is reported (default: 5)"),
    )
    parser.json("all figures")

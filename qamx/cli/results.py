"""Commands on many runs and on the machine: sweep, status, watch, report, compare, plan, diff,
doctor and bench."""

from pathlib import Path

from qamx.cli.options import Subparsers, add_command


def add_sweep(commands: Subparsers) -> None:
    summary = "run a suite locally or on Slurm; run again to resume"
    parser = add_command(commands, "sweep", summary, "qamx.tools.sweep.sweep:sweep")
    parser.path("file", "SUITE", "suite: a TOML file, or a name such as table1")
    parser.overrides()
    parser.path("--out", "DIR", "the sweep's folder (default: runs/SUITE)")
    on = "where processes run (default: local)"
    parser.choice("--on", ("local", "slurm"), on, default="local")
    parser.path(
        "--cluster", "FILE", "TOML file with the Slurm resources of a job", dest="cluster_file"
    )
    parser.integers(("--jobs", None, "parallel local processes (default: one per GPU)"))
    parser.flag("--dry-run", "print jobs and estimated GPU hours, start nothing", dest="dry")
    parser.flag("--verbose", "with --dry-run: print every job")
    select = "write a suite with the best settings of a complete tuning suite to FILE"
    parser.path("--select", "FILE", select, dest="selected")


def add_status(commands: Subparsers) -> None:
    summary = "show progress, and the last log lines of failed runs"
    parser = add_command(commands, "status", summary, "qamx.tools.sweep.status:status")
    directory = "a run, a sweep, or a folder of several (default: runs)"
    parser.path("directory", "DIR", directory, nargs="?", default=Path("runs"))
    parser.flag("--json", "print JSON", dest="as_json")


def add_watch(commands: Subparsers) -> None:
    summary = "serve a page on localhost with the curves of runs while they train"
    parser = add_command(commands, "watch", summary, "qamx.tools.watch:watch")
    parser.path("folders", "DIR", "runs, or folders with runs in them", nargs="+")
    parser.integers(("--port", 8600, "port of the page, 0 for any free one (default: 8600)"))


def add_report(commands: Subparsers) -> None:
    summary = "tables, curves and figures of runs, with intervals"
    parser = add_command(commands, "report", summary, "qamx.tools.results.report:report")
    parser.path("folders", "DIR", "runs, or folders with runs in them", nargs="+")
    parser.path("--out", "FOLDER", "write HTML, Markdown, LaTeX, CSV and figures to FOLDER")
    evaluations = "write every evaluation of every run to FILE, one row each"
    parser.path("--csv", "FILE", evaluations, dest="csv_file")
    parser.integers(("--step", None, "report this step (default: the end of each phase)"))
    highlight = "draw these methods in colour, the others grey"
    parser.add_argument("--highlight", nargs="+", default=(), metavar="METHOD", help=highlight)
    tables = "write tables only"
    parser.add_argument("--no-figures", dest="figures", action="store_false", help=tables)


def add_compare(commands: Subparsers) -> None:
    summary = "compare runs with published results or other runs"
    parser = add_command(commands, "compare", summary, "qamx.tools.results.compare:compare")
    parser.path("folders", "RUN", "runs, or folders with runs in them", nargs="+")
    against = "other side of the comparison (default: the second of two folders, else published)"
    parser.add_argument("--against", metavar="published|DIR", help=against)
    parser.integers(("--step", None, "compare at this step (default: the last common one)"))
    parser.path("--out", "FOLDER", "write table and curves to FOLDER")


def add_plan(commands: Subparsers) -> None:
    summary = "power analysis: seeds and GPU hours of a comparison"
    parser = add_command(commands, "plan", summary, "qamx.tools.results.power:plan")
    parser.add_argument("methods", nargs=2, metavar="METHOD", help="two methods, e.g. qam_edit fql")
    domain = "an environment, e.g. cube-double-play, its code c2, or all"
    parser.add_argument("--domain", required=True, metavar="NAME", help=domain)
    power = "power of a test at the 5%% level (default: 0.8)"
    parser.add_argument("--power", type=float, default=0.8, metavar="P", help=power)
    parser.integers(
        ("--episodes", 50, "episodes per evaluation (default: 50)"),
        (
            "--step",
            1_000_000,
            "step of the published results (default: 1000000, end of offline training)",
        ),
    )
    hours = "GPU hours of a run (default: 3, on an A5000)"
    parser.add_argument("--hours", type=float, default=3.0, metavar="H", help=hours)


def add_diff(commands: Subparsers) -> None:
    summary = "compare config, data and logs of two runs; find where they diverge"
    add_command(commands, "diff", summary, "qamx.tools.diff:diff").run_folders("one", "other")


def add_doctor(commands: Subparsers) -> None:
    summary = "check this machine's setup, and suggest fixes"
    add_command(commands, "doctor", summary, "qamx.tools.doctor:doctor")


def add_bench(commands: Subparsers) -> None:
    summary = "benchmark training speed on this machine"
    parser = add_command(commands, "bench", summary, "qamx.tools.bench:bench")
    parser.several("--method", "NAME", "methods to time (default: qam qam_edit)", dest="methods")
    parser.device(dest="device")
    chip = "compile for a GPU without having it, and count kernels: h100, or an XLA target file"
    parser.add_argument("--for", dest="target", metavar="CHIP", help=chip)
    seeds = "seeds trained in one program (default: 1 2 4 8 12; with --for 1)"
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help=seeds)
    size = "size of networks and batches (default: paper with --for or on a GPU, else quickstart)"
    parser.choice("--size", ("paper", "quickstart", "tiny"), size)
    precisions = ("tf32", "float32", "bfloat16")
    parser.choice(
        "--precision", precisions, "precision of matrix products (default: tf32)", default="tf32"
    )
    parser.integers(
        ("--observation", None, "dimensions of an observation (default: the size's)"),
        ("--action", None, "dimensions of an action (default: the size's)"),
        ("--updates", None, "updates per timed call (default: by size)"),
        ("--rounds", 5, "timing rounds, of which the fastest is reported (default: 5)"),
    )
    parser.json("all numbers")

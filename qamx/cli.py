"""The `qamx` command.

Each subcommand is one function that adds its arguments and names its handler. What a handler
needs is imported inside it, so that help and checks answer at once.
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qamx._utils.processes import ending_in_order
from qamx._utils.seeds import check_seed
from qamx.errors import UserError, exit_code

if TYPE_CHECKING:
    from qamx.config import Experiment
    from qamx.evaluation.evaluate import EvaluationOptions

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_EXAMPLES = """\
examples:
  qamx run quickstart
  qamx run c4_qam_edit --set environment.task=4 --seed 20002
  qamx run experiments/c4_qam_edit.toml --seeds 12
  qamx sweep table1 --on slurm --cluster cluster.toml
  qamx status runs/table1
  qamx eval runs/quickstart-task1-seed10001
  qamx check experiments/*.toml
  qamx data generate cube-double-play
  qamx data download antmaze-large-navigate
  qamx data inspect ogbench:cube-double-play-v0 --html report.html
  qamx inspect runs/one --flow
  qamx diff runs/one runs/other
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, as `qamx.errors.exit_code` has it."""
    arguments = build_parser().parse_args(argv)
    _log_to_terminal()
    with ending_in_order():
        return exit_code(lambda: arguments.handler(arguments))


class _TerminalHandler(logging.Handler):
    """Writes messages as plain lines, warnings and errors to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        stream.write(f"{self.format(record)}\n")
        stream.flush()


def _log_to_terminal() -> None:
    logger = logging.getLogger("qamx")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _TerminalHandler) for handler in logger.handlers):
        logger.addHandler(_TerminalHandler())


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="qamx",
        description="Reinforcement learning with flow-matching policies, offline and online.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for add in COMMANDS:
        add(commands)
    return parser


def _add_run(commands: Subparsers) -> None:
    parser = _command(commands, "run", "train and evaluate the policy of an experiment", _run)
    _add_experiment(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME-taskK-seedN)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="N runs, of the file's seed and 10001 more each; with --out in DIR/seedN",
    )
    parser.add_argument(
        "--seeds-mode",
        choices=("auto", "vectorised", "sequential"),
        default="auto",
        help="seeds as one program or one after the other (default: what is faster here)",
    )
    parser.add_argument(
        "--wandb",
        choices=("disabled", "offline", "online"),
        help="Weights & Biases (default: the file's)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from qamx.config import load

    wandb = [f"logging.wandb={arguments.wandb}"] if arguments.wandb else []
    experiment = load(arguments.file, [*arguments.set, *wandb], arguments.seed)
    if arguments.seeds is not None:
        return _run_seeds(experiment, arguments)
    out = arguments.out or Path("runs") / experiment.run_name

    from qamx.running import run

    return run(experiment, out)


SEED_STEP = 10001
"""Between the seeds of a group: the paper's are 10001, 20002, ..., 120012."""


def _run_seeds(experiment: "Experiment", arguments: argparse.Namespace) -> int:
    if arguments.seeds < 1:
        raise UserError(f"--seeds: found {arguments.seeds}; write a positive integer, e.g. 4")
    last = experiment.seed + SEED_STEP * (arguments.seeds - 1)
    check_seed(f"--seeds {arguments.seeds}, the seed of the last run", last)
    seeds = [experiment.seed + SEED_STEP * index for index in range(arguments.seeds)]
    experiments = [dataclasses.replace(experiment, seed=seed) for seed in seeds]
    directories = [
        Path("runs") / one.run_name if arguments.out is None else arguments.out / f"seed{one.seed}"
        for one in experiments
    ]

    from qamx.running import run_seeds, run_together, vectorise

    together = arguments.seeds_mode == "vectorised" or (
        arguments.seeds_mode == "auto" and vectorise(experiment)
    )
    return (run_together if together else run_seeds)(experiments, directories)


def _add_check(commands: Subparsers) -> None:
    parser = _command(commands, "check", "validate experiment and suite files", _check)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="TOML, or a name as in qamx list"
    )


def _check(arguments: argparse.Namespace) -> int:
    from qamx.config import find_experiment, is_suite_file, load, load_suite

    status = 0
    for file in map(find_experiment, arguments.files):
        try:
            if is_suite_file(file):
                print(f"ok {file} ({len(load_suite(file).runs())} runs)")
            else:
                load(file)
                print(f"ok {file}")
        except UserError as error:
            print(error, file=sys.stderr)
            status = 2
    return status


def _add_show(commands: Subparsers) -> None:
    parser = _command(commands, "show", "print an experiment with every default, as TOML", _show)
    _add_experiment(parser)


def _show(arguments: argparse.Namespace) -> int:
    from qamx.config import load

    return _write(load(arguments.file, arguments.set, arguments.seed).to_toml())


def _add_list(commands: Subparsers) -> None:
    summary = "list what an experiment file can name, and experiments"
    _command(commands, "list", summary, _list)


def _list(arguments: argparse.Namespace) -> int:
    from qamx.config.listing import listing

    return _write(listing(Path("experiments"), tables=sys.stdout.isatty()))


def _add_diff(commands: Subparsers) -> None:
    parser = _command(commands, "diff", "say why two runs differ, and where they part", _diff)
    for name in ("one", "other"):
        parser.add_argument(name, type=Path, metavar="RUN", help="the folder of a run")


def _diff(arguments: argparse.Namespace) -> int:
    from qamx.tools.diff import diff

    return diff(arguments.one, arguments.other)


def _add_verify(commands: Subparsers) -> None:
    summary = "kill a short run of an experiment, resume it, and compare it with a whole one"
    parser = _command(commands, "verify-resume", summary, _verify)
    _add_experiment(parser)
    parser.add_argument("--kills", type=int, default=4, metavar="N", help="how often (default: 4)")


def _verify(arguments: argparse.Namespace) -> int:
    from qamx.tools.verify_resume import verify_resume

    return verify_resume(arguments.file, arguments.set, arguments.seed, arguments.kills)


def _add_doctor(commands: Subparsers) -> None:
    _command(commands, "doctor", "say what this machine lacks, and what to do", _doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from qamx.tools.doctor import doctor

    return doctor()


def _add_bench(commands: Subparsers) -> None:
    summary = "measure what a method's updates cost here, on random data"
    parser = _command(commands, "bench", summary, _bench)
    parser.add_argument(
        "--method", nargs="+", action="extend", default=[], metavar="NAME", help="default: two"
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
    _add_numbers(
        parser,
        ("observation", None, "entries of an observation (default: the size's)"),
        ("action", None, "entries of an action (default: the size's)"),
        ("updates", None, "updates in a timed call (default: by size)"),
        ("rounds", 5, "the shortest counts (default: 5)"),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def _bench(arguments: argparse.Namespace) -> int:
    from qamx.tools.bench import bench

    return bench(
        arguments.method,
        device=arguments.device,
        seeds=arguments.seeds,
        size=arguments.size,
        observation=arguments.observation,
        action=arguments.action,
        precision=arguments.precision,
        updates=arguments.updates,
        rounds=arguments.rounds,
        file=arguments.json,
    )


def _add_report(commands: Subparsers) -> None:
    summary = "tables, curves and figures of runs, with intervals"
    parser = _command(commands, "report", summary, _report)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="runs, or folders with runs in them"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write HTML, Markdown, LaTeX, CSV, figures there"
    )
    _add_numbers(parser, ("step", None, "report this step (default: the end of each phase)"))
    parser.add_argument("--no-figures", action="store_true", help="write tables alone")


def _report(arguments: argparse.Namespace) -> int:
    from qamx.tools.results.report import report

    return report(
        arguments.folders, arguments.out, arguments.step, figures=not arguments.no_figures
    )


def _add_compare(commands: Subparsers) -> None:
    summary = "say whether runs agree with the published figures, or with other runs"
    parser = _command(commands, "compare", summary, _compare)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN", help="runs, or folders with runs in them"
    )
    parser.add_argument(
        "--against",
        metavar="published|DIR",
        help="the other side (default: of two folders the second, else the published figures)",
    )
    _add_numbers(parser, ("step", None, "compare at this step (default: the last that all share)"))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write table and curves there")


def _compare(arguments: argparse.Namespace) -> int:
    from qamx.tools.results.compare import compare

    return compare(arguments.folders, arguments.against, arguments.step, arguments.out)


def _add_plan(commands: Subparsers) -> None:
    summary = "say how many seeds tell two published methods apart, and what they cost"
    parser = _command(commands, "plan", summary, _plan)
    parser.add_argument("methods", nargs=2, metavar="METHOD", help="such as qam_edit fql")
    parser.add_argument(
        "--domain", required=True, metavar="NAME", help="such as cube-double-play, or all"
    )
    parser.add_argument(
        "--power", type=float, default=0.8, metavar="P", help="of a 5%% test (default: 0.8)"
    )
    _add_numbers(
        parser,
        ("episodes", 50, "of an evaluation (default: 50)"),
        ("step", 1_000_000, "of the published figures (default: 1000000, the offline end)"),
    )
    parser.add_argument(
        "--hours", type=float, default=3.0, metavar="H", help="a run on a GPU (default: 3, A5000)"
    )


def _plan(arguments: argparse.Namespace) -> int:
    from qamx.tools.results.power import plan

    return plan(
        arguments.methods,
        arguments.domain,
        arguments.step,
        arguments.power,
        arguments.episodes,
        arguments.hours,
    )


def _add_data(commands: Subparsers) -> None:
    summary = "make, download and inspect data sets"
    parser = commands.add_parser("data", help=summary, description=f"{summary.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    generate = _command(actions, "generate", "make an OGBench data set with its oracles", _generate)
    generate.add_argument("name", metavar="NAME", help="such as cube-double-play")
    _add_numbers(
        generate,
        ("episodes", None, "training episodes, of each shard if sharded (default: OGBench's size)"),
        ("shards", None, "make a folder of this many files"),
        ("seed", 0, "seed of every draw (default: 0)"),
        ("workers", None, "processes (default: one a core)"),
    )
    generate.add_argument("--directory", type=Path, metavar="DIR", help="where data sets are kept")
    generate.add_argument("--overwrite", action="store_true", help="replace a set that is there")
    _add_download(actions)
    _add_inspect(actions)
    _add_expert(actions)


def _generate(arguments: argparse.Namespace) -> int:
    from qamx.data.ogbench.generate import generate

    generate(
        arguments.name,
        episodes=arguments.episodes,
        shards=arguments.shards,
        seed=arguments.seed,
        workers=arguments.workers,
        directory=arguments.directory,
        overwrite=arguments.overwrite,
    )
    return 0


def _add_download(actions: Subparsers) -> None:
    summary = "download OGBench data sets, or verify those that are there"
    parser = _command(actions, "download", summary, _download)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="such as cube-double-play, cube-double-play-100m"
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where data sets are kept")
    _add_numbers(
        parser,
        ("shards", None, "the first N files of a folder of shards (default: all)"),
        ("jobs", 4, "files at a time (default: 4)"),
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="fetch from here alone (default: $QAMX_MIRROR, else OGBench's, then a public copy)",
    )
    parser.add_argument("--again", action="store_true", help="fetch files that are there anew")


def _download(arguments: argparse.Namespace) -> int:
    from qamx.data.ogbench.download import download

    download(
        arguments.names,
        directory=arguments.directory,
        shards=arguments.shards,
        jobs=arguments.jobs,
        mirror=arguments.mirror,
        again=arguments.again,
    )
    return 0


def _add_inspect(actions: Subparsers) -> None:
    summary = "report on a data set: what it holds, and what is wrong with it"
    parser = _command(actions, "inspect", summary, _inspect)
    parser.add_argument(
        "source", metavar="SOURCE", help="such as ogbench:cube-double-play-v0, or an experiment"
    )
    parser.add_argument(
        "--environment", metavar="ID", help="default: the experiment's or OGBench's"
    )
    _add_numbers(
        parser,
        ("task", None, "of the environment (default: all of them)"),
        ("horizon", None, "steps of a chunk (default: the experiment's, or 5)"),
        ("shards", None, "look at the first N (default: all)"),
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where data sets are kept")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")


def _inspect(arguments: argparse.Namespace) -> int:
    from qamx.tools.inspect_data.output import inspect_data
    from qamx.tools.inspect_data.target import SourceOptions

    return inspect_data(
        arguments.source,
        SourceOptions(
            arguments.environment, arguments.task, arguments.horizon, arguments.directory
        ),
        shards=arguments.shards,
        html=arguments.html,
        file=arguments.json,
        strict=arguments.strict,
    )


def _add_expert(actions: Subparsers) -> None:
    summary = "train who walks in the ant or humanoid mazes, or go on training"
    expert = _command(actions, "expert", summary, _expert)
    expert.add_argument("name", metavar="NAME", choices=("ant", "humanoid"), help="ant or humanoid")
    _add_numbers(
        expert,
        ("steps", None, "environment steps (default: OGBench's, 400 thousand or 40 million)"),
        ("seed", None, "seed of the run (default: 10001)"),
    )
    expert.add_argument("--directory", type=Path, metavar="DIR", help="where data sets are kept")
    _add_overrides(expert)


def _expert(arguments: argparse.Namespace) -> int:
    from qamx.data.ogbench.catalogue import default_directory
    from qamx.tools.train_expert import train_expert

    return train_expert(
        arguments.name,
        default_directory() if arguments.directory is None else arguments.directory.expanduser(),
        steps=arguments.steps,
        seed=arguments.seed,
        overrides=arguments.set,
    )


def _add_look(commands: Subparsers) -> None:
    summary = "look inside a run's policy, and say what is unhealthy"
    parser = _command(commands, "inspect", summary, _look)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--flow", action="store_true", help="write figures as a page, too")
    parser.add_argument(
        "--state",
        nargs="+",
        action="extend",
        default=[],
        metavar="WHERE",
        help="rows of the data by number, or resets, or FILE.npz with observations",
    )
    _add_numbers(
        parser,
        ("states", 32, "how many states, where they are not named (default: 32)"),
        ("samples", 32, "action chunks at each state (default: 32)"),
        ("seed", 0, "seed of every draw (default: 0)"),
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the page's folder (default: RUN-inspect)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")


def _look(arguments: argparse.Namespace) -> int:
    from qamx.tools.inspect_policy.output import inspect_run

    return inspect_run(
        arguments.run,
        flow=arguments.flow,
        where=arguments.state,
        states=arguments.states,
        samples=arguments.samples,
        seed=arguments.seed,
        out=arguments.out,
        file=arguments.json,
    )


def _add_sweep(commands: Subparsers) -> None:
    summary = "carry out every run of a suite, here or on Slurm; again: continue"
    parser = _command(commands, "sweep", summary, _sweep)
    parser.add_argument(
        "suite", type=Path, metavar="SUITE", help="a suite, TOML, or a name such as table1"
    )
    _add_overrides(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the sweep's folder (default: runs/SUITE)"
    )
    parser.add_argument(
        "--on",
        choices=("local", "slurm"),
        default="local",
        help="where its processes run (default: local)",
    )
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="what a job gets and holds, TOML"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="local processes at a time (default: one a GPU)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print jobs and estimated GPU hours, start nothing"
    )
    parser.add_argument(
        "--select",
        type=Path,
        metavar="FILE",
        help="of a complete tuning suite, write the suite of the best settings to FILE",
    )


def _sweep(arguments: argparse.Namespace) -> int:
    from qamx.tools.sweep.sweep import sweep

    return sweep(
        arguments.suite,
        overrides=arguments.set,
        out=arguments.out,
        on=arguments.on,
        cluster_file=arguments.cluster,
        jobs=arguments.jobs,
        dry=arguments.dry_run,
        selected=arguments.select,
    )


def _add_status(commands: Subparsers) -> None:
    summary = "show how far runs are, and what those that failed said last"
    parser = _command(commands, "status", summary, _status)
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="DIR",
        help="of a run, a sweep, or several (default: runs)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _status(arguments: argparse.Namespace) -> int:
    from qamx.tools.sweep.status import status

    return status(arguments.directory, arguments.json)


def _add_eval(commands: Subparsers) -> None:
    summary = "play a run's policy as it is now, also while the run trains"
    parser = _command(commands, "eval", summary, _eval)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, or of exports"
    )
    parser.add_argument(
        "--paired", action="store_true", help="compare two runs on the same reset seeds"
    )
    _add_playing(parser, "episodes on each task (default: the experiment's)")
    _add_numbers(parser, ("workers", None, "processes, 0 for none (default: the experiment's)"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each episode there")


def _eval(arguments: argparse.Namespace) -> int:
    from qamx.evaluation.evaluate import evaluate, evaluate_paired

    command = evaluate_paired if arguments.paired else evaluate
    return command(arguments.runs, _playing(arguments, arguments.workers), arguments.json)


def _add_video(commands: Subparsers) -> None:
    summary = "show episodes of a run's policy as MP4 and GIF"
    parser = _command(commands, "video", summary, _video)
    what = "the folder of a run, or of an exported policy"
    parser.add_argument("run", type=Path, metavar="RUN", help=what)
    _add_playing(parser, "episodes of each task (default: 4 of one, 1 each of several)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a file .mp4 or .gif, or a folder or name for both (default: the run's name, here)",
    )
    _add_numbers(parser, ("size", 320, "width of an episode's image in pixels (default: 320)"))
    parser.add_argument(
        "--fps", type=float, metavar="F", help="steps a second (default: the environment's)"
    )


def _video(arguments: argparse.Namespace) -> int:
    from qamx.evaluation.video import video

    options = _playing(arguments, workers=None)
    return video(arguments.run, options, arguments.out, arguments.size, arguments.fps)


def _add_playing(parser: argparse.ArgumentParser, episodes: str) -> None:
    """What `eval` and `video` share: which policy plays which episodes."""
    parser.add_argument(
        "--task",
        nargs="+",
        action="extend",
        type=int,
        default=[],
        metavar="K",
        help="tasks of the environment (default: the one that was trained for)",
    )
    _add_numbers(
        parser,
        ("episodes", None, episodes),
        ("seed", None, "of resets and of the policy's draws (default: the run's)"),
        ("step", None, "of an older checkpoint that is kept (default: the newest)"),
    )
    parser.add_argument("--behaviour", action="store_true", help="its clone of the data beside it")


def _playing(arguments: argparse.Namespace, workers: int | None) -> "EvaluationOptions":
    from qamx.evaluation.evaluate import EvaluationOptions

    return EvaluationOptions(
        arguments.task,
        arguments.episodes,
        arguments.seed,
        arguments.step,
        workers,
        arguments.behaviour,
    )


def _add_export(commands: Subparsers) -> None:
    summary = "write a run's policy as a folder that acts without qamx's training code"
    parser = _command(commands, "export", summary, _export)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--format",
        choices=("bundle", "onnx"),
        default="bundle",
        help="a program of JAX's, or an ONNX model (default: bundle)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write (default: RUN-FORMAT)"
    )
    _add_numbers(parser, ("step", None, "of an older checkpoint (default: the newest)"))


def _export(arguments: argparse.Namespace) -> int:
    from qamx.export.bundle import export_run

    return export_run(arguments.run, arguments.format, arguments.out, arguments.step)


COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    _add_run,
    _add_sweep,
    _add_status,
    _add_eval,
    _add_video,
    _add_check,
    _add_show,
    _add_list,
    _add_data,
    _add_look,
    _add_export,
    _add_diff,
    _add_verify,
    _add_doctor,
    _add_bench,
    _add_report,
    _add_compare,
    _add_plan,
)
"""What adds each subcommand, in the order of the help."""


def _command(
    commands: Subparsers,
    name: str,
    summary: str,
    handler: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_numbers(parser: argparse.ArgumentParser, *options: tuple[str, int | None, str]) -> None:
    """Options that take an integer: name, default, and meaning."""
    for name, default, meaning in options:
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=meaning)


def _write(text: str) -> int:
    print(text, end="", flush=True)
    return 0


_EXPERIMENT = "an experiment, TOML, or a name such as c4_qam_edit"


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=_EXPERIMENT)
    _add_overrides(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="take the place of the file's seed")


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change a key, as in agent.horizon=5; an empty value restores its default",
    )


class _Version(argparse.Action):
    """Prints the version; looks it up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from qamx._utils.files import package_version

        print(f"qamx {package_version('qamx') or '(a source tree, not installed)'}")
        parser.exit()

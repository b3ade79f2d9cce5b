"""Commands on experiments: run, check, show, list and verify-resume."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qamx.cli.options import Subparsers, add_command, add_experiment, add_integers, add_path
from qamx.errors import ExitCode, UserError


def add_run(commands: Subparsers) -> None:
    """`qamx run`."""
    parser = add_command(commands, "run", "train and evaluate the policy of an experiment", _run)
    add_experiment(parser)
    add_path(parser, "out", "the run's folder (default: runs/NAME-taskK-seedN)", "DIR")
    seeds = "N runs, of the file's seed and 10001 more each; with --out in DIR/seedN"
    add_integers(parser, ("seeds", None, seeds))
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


def _run(
    file: Path,
    overrides: Sequence[str],
    seed: int | None,
    out: Path | None,
    seeds: int | None,
    seeds_mode: str,
    wandb: str | None,
) -> int:
    from qamx.config import load

    changes = [*overrides, f"logging.wandb={wandb}"] if wandb else overrides
    experiment = load(file, changes, seed)
    if seeds is not None:
        group = experiment.with_seeds(seeds)

        from qamx.running import run_group

        return run_group(group, out, seeds_mode)

    from qamx.running import run

    return run(experiment, out or experiment.directory)


def add_check(commands: Subparsers) -> None:
    """`qamx check`."""
    parser = add_command(commands, "check", "validate experiment and suite files", _check)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="TOML, or a name as in qamx list"
    )


def _check(files: Sequence[Path]) -> int:
    from qamx.config import find_experiment, is_suite_file, load, load_suite

    status = ExitCode.DONE
    for file in map(find_experiment, files):
        try:
            if is_suite_file(file):
                print(f"ok {file} ({len(load_suite(file).runs())} runs)")
            else:
                load(file)
                print(f"ok {file}")
        except UserError as error:
            print(error, file=sys.stderr)
            status = ExitCode.USER_ERROR
    return status


def add_show(commands: Subparsers) -> None:
    """`qamx show`."""
    summary = "print an experiment with every default, as TOML"
    add_experiment(add_command(commands, "show", summary, _show))


def _show(file: Path, overrides: Sequence[str], seed: int | None) -> int:
    from qamx.config import load

    print(load(file, overrides, seed).to_toml(), end="", flush=True)
    return ExitCode.DONE


def add_list(commands: Subparsers) -> None:
    """`qamx list`."""
    summary = "list what an experiment file can name, and experiments"
    add_command(commands, "list", summary, _list)


def _list() -> int:
    from qamx.cli.listing import print_listing

    print_listing(Path("experiments"))
    return ExitCode.DONE


def add_verify_resume(commands: Subparsers) -> None:
    """`qamx verify-resume`."""
    summary = "kill and resume a short run, and compare it with an uninterrupted one"
    parser = add_command(commands, "verify-resume", summary, _verify_resume)
    add_experiment(parser)
    add_integers(parser, ("kills", 4, "how often (default: 4)"))


def _verify_resume(**options: Any) -> int:
    from qamx.tools.verify_resume import verify_resume

    return verify_resume(**options)

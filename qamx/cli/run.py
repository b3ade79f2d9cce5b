"""Commands on experiments: run, check, show, list and verify-resume; and the
script for a shell."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qamx._utils.finding import counted
from qamx.cli.options import Subparsers, add_command
from qamx.errors import ExitCode, UserError

if TYPE_CHECKING:
    from qamx.config import Experiment


def add_run(commands: Subparsers) -> None:
    parser = add_command(commands, "run", "train and evaluate the policy of an experiment", _run)
    parser.experiment()
    parser.path("--out", "DIR", "the run's folder (default: runs/NAME-taskK-seedN)")
    seeds = "train N seeds: S, S+10001, ... where S is the file's seed; --out DIR gives DIR/seedS"
    parser.integers(("--seeds", None, seeds))
    parser.device()
    modes = "train seeds in one program or one after another (default: the faster one here)"
    parser.choice("--seeds-mode", ("auto", "vectorised", "sequential"), modes, default="auto")
    wandb = "mode of Weights & Biases (default: the file's)"
    parser.choice("--wandb", ("disabled", "offline", "online"), wandb)


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
    parser = add_command(commands, "check", "validate experiment and suite files", _check)
    parser.path("files", "FILE", "a TOML file, or a name from qamx list", nargs="+")
    parser.flag("--deep", "also create and reset each file's environments")


def _check(files: Sequence[Path], deep: bool) -> int:
    from qamx.config import find_experiment, is_suite_file, load, load_suite

    status = ExitCode.DONE
    for file in map(find_experiment, files):
        try:
            if is_suite_file(file):
                suite = load_suite(file)
                runs = suite.runs()
                tried = try_environments(run.load() for run in runs) if deep else ""
                print(f"ok {file} ({counted(len(suite), 'run')}{tried and f', {tried}'})")
            else:
                experiment = load(file)
                tried = try_environments([experiment]) if deep else untried(experiment)
                print(f"ok {file}{tried and f' ({tried})'}")
        except UserError as error:
            print(error, file=sys.stderr)
            status = ExitCode.USER_ERROR
    return status


def try_environments(experiments: Iterable["Experiment"]) -> str:
    """Makes and resets each environment of some experiments; returns what was tried.

    **Raises:** `UserError` from the environment.
    """
    from qamx.building import build_environment
    from qamx.envs import opened

    found = {str(e.environment): e.environment for e in experiments}
    for settings in found.values():
        with opened(build_environment(settings)) as environment:
            environment.reset(0)
    return f"{counted(len(found), 'environment')} tried"


def untried(experiment: "Experiment") -> str:
    """A note on an environment of the user's own, which is not imported to check a file."""
    from qamx.config.environments import OGBenchEnvironmentSettings

    known = isinstance(experiment.environment, OGBenchEnvironmentSettings)
    return "" if known else "environment not tried; --deep tries it"


def add_show(commands: Subparsers) -> None:
    summary = "print an experiment with every default, as TOML"
    add_command(commands, "show", summary, _show).experiment()


def _show(file: Path, overrides: Sequence[str], seed: int | None) -> None:
    from qamx.config import load

    print(load(file, overrides, seed).to_toml(), end="", flush=True)


def add_list(commands: Subparsers) -> None:
    summary = "list methods, environments, experiments and suites"
    parser = add_command(commands, "list", summary, "qamx.cli.listing:print_listing")
    words = (
        "methods, experiments, suites, environments, data, schedules or temperatures, and texts "
        "that a line must contain (default: everything)"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help=words)


def add_completion(commands: Subparsers) -> None:
    summary = "print a shell completion script"
    parser = add_command(commands, "completion", summary, "qamx.cli.completion:print_script")
    parser.choice("shell", ("bash", "zsh", "fish"), "bash, zsh or fish", metavar="SHELL")


def add_verify_resume(commands: Subparsers) -> None:
    summary = "test that an interrupted run resumes exactly"
    function = "qamx.tools.verify_resume:verify_resume"
    parser = add_command(commands, "verify-resume", summary, function)
    parser.experiment()
    parser.integers(("--kills", 4, "number of kills (default: 4)"))

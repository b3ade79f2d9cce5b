"""The `qamx` command.

A command is a function that adds its options, and a handler that takes them by name. Handlers are
imported, or import what they need, when they run, so that help and checks answer at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from qamx._utils.processes import exit_cleanly
from qamx.cli import data, policy, results, run
from qamx.cli.options import Parser, Subparsers
from qamx.errors import ExitCode, exit_code

_EXAMPLES = """\
examples:
  qamx run quickstart
  qamx run c4_qam_edit --set environment.task=4 --seed 20002
  qamx run experiments/c4_qam_edit.toml --seeds 12
  qamx sweep table1 --on slurm --cluster cluster.toml
  qamx status runs/table1
  qamx watch runs/
  qamx eval runs/quickstart-task1-seed10001
  qamx check experiments/*.toml
  qamx data generate cube-double-play
  qamx data download antmaze-large-navigate
  qamx data inspect ogbench:cube-double-play-v0 --html report.html
  qamx inspect runs/one --html
  qamx diff runs/one runs/other
"""


COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    run.add_run,
    results.add_sweep,
    results.add_status,
    results.add_watch,
    policy.add_eval,
    policy.add_video,
    run.add_check,
    run.add_show,
    run.add_list,
    data.add_data,
    policy.add_inspect,
    policy.add_export,
    policy.add_push,
    policy.add_pull,
    results.add_diff,
    run.add_verify_resume,
    results.add_doctor,
    results.add_bench,
    results.add_report,
    results.add_compare,
    results.add_plan,
    run.add_completion,
)
"""Functions that add the commands, in the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, see `qamx.errors.exit_code`."""
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return ExitCode.DONE
    options = vars(parser.parse_args(argv))
    handler, device = options.pop("handler"), options.pop("jax_device", None)
    from qamx._utils.terminal import print_log

    def action() -> int:
        if device is not None:
            from qamx._utils.backend import use_device

            use_device(device)
        function = resolve_name(handler) if isinstance(handler, str) else handler
        code = function(**options)
        return code if isinstance(code, int) else ExitCode.DONE

    print_log()
    with exit_cleanly():
        return exit_code(action)


def build_parser() -> Parser:
    """The parser of all commands."""
    description = "Reinforcement learning with flow-matching policies, offline and online."
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("qamx", description=description, epilog=_EXAMPLES, formatter_class=raw)
    version = "show the version and exit"
    parser.add_argument("--version", action=_Version, dest=argparse.SUPPRESS, help=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for add in COMMANDS:
        add(commands)
    return parser


class _Version(argparse.Action):
    """Print the version, which is looked up only when asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from qamx._utils.files import package_version

        print(f"qamx {package_version('qamx') or '(a source tree, not installed)'}")
        parser.exit()

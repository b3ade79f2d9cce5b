"""Options that several commands share, and how a command is declared.

An option is written once: its name is the keyword that the command's function takes.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Handler: TypeAlias = Callable[..., int]


def add_command(
    commands: Subparsers, name: str, summary: str, handler: Handler
) -> argparse.ArgumentParser:
    """Add a command whose options are passed to `handler` by name."""
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(handler=handler)
    return parser


def add_integers(parser: argparse.ArgumentParser, *options: tuple[str, int | None, str]) -> None:
    """Add options that take an integer: name, default, and meaning."""
    for name, default, meaning in options:
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=meaning)


def add_path(parser: argparse.ArgumentParser, name: str, meaning: str, metavar: str) -> None:
    """Add an option that takes a path, by default None."""
    parser.add_argument(f"--{name}", type=Path, metavar=metavar, help=meaning)


def add_run(
    parser: argparse.ArgumentParser, *names: str, help: str = "the folder of a run"
) -> None:
    """Add positional arguments that are folders of runs."""
    for name in names:
        parser.add_argument(name, type=Path, metavar="RUN", help=help)


def add_folders(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add a positional argument that takes one or more folders with runs."""
    meaning = "runs, or folders with runs in them"
    parser.add_argument("folders", nargs="+", type=Path, metavar=metavar, help=meaning)


def add_data_directory(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where data sets are kept."""
    add_path(parser, "directory", "where data sets are kept", "DIR")


def add_json(parser: argparse.ArgumentParser, content: str) -> None:
    """Add the option that writes JSON to a file."""
    add_path(parser, "json", f"write {content} there", "FILE")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name an experiment, its changes and its seed."""
    meaning = "an experiment, TOML, or a name such as c4_qam_edit"
    parser.add_argument("file", type=Path, metavar="FILE", help=meaning)
    add_overrides(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="take the place of the file's seed")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the option `--set`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change a key, as in agent.horizon=5; an empty value restores its default",
    )

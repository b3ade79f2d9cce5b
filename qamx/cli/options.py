"""The parser of a command, with a method for each kind of argument.

An argument is written once: its name, or `dest`, is the keyword that the command's function takes.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose arguments take a line each; a name that begins with -- is an option's."""

    def integers(self, *options: tuple[str, int | None, str]) -> None:
        """Adds options that take an integer: name, default, and meaning."""
        for name, default, meaning in options:
            self.add_argument(name, type=int, default=default, metavar="N", help=meaning)

    def path(self, name: str, metavar: str, meaning: str, **options: Any) -> None:
        """Adds an argument that takes a path; an option is None by default."""
        self.add_argument(name, type=Path, metavar=metavar, help=meaning, **options)

    def flag(self, name: str, meaning: str, **options: Any) -> None:
        """Adds an option without a value, False by default."""
        self.add_argument(name, action="store_true", help=meaning, **options)

    def choice(self, name: str, choices: Sequence[str], meaning: str, **options: Any) -> None:
        """Adds an option that takes one of several words."""
        self.add_argument(name, choices=choices, help=meaning, **options)

    def several(self, name: str, metavar: str, meaning: str, **options: Any) -> None:
        """Adds an option that takes several values and may be repeated."""
        collect: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
        self.add_argument(name, metavar=metavar, help=meaning, **collect, **options)

    def run_folders(self, *names: str, meaning: str = "the folder of a run") -> None:
        """Adds positional arguments that are folders of runs."""
        for name in names:
            self.path(name, "RUN", meaning)

    def experiment(self) -> None:
        """Adds the arguments that name an experiment, its changes and its seed."""
        self.path("file", "FILE", "experiment: a TOML file, or a name such as c4_qam_edit")
        self.overrides()
        self.integers(("--seed", None, "override the seed"))

    def overrides(self) -> None:
        """Adds the option `--set`."""
        meaning = "change a key, e.g. agent.horizon=5; an empty value restores its default"
        self.several("--set", "KEY=VALUE", meaning, dest="overrides")

    def device(self, dest: str = "jax_device") -> None:
        """Adds the option that chooses JAX's device; `qamx.cli.main` takes its default `dest`."""
        meaning = "cpu, gpu, or GPUs by number, e.g. gpu:1 (default: what JAX finds)"
        self.add_argument("--device", metavar="DEVICE", help=meaning, dest=dest)

    def data_directory(self, default: str = "$QAMX_DATA, else ~/.ogbench/data") -> None:
        """Adds the option that names the folder of the data sets."""
        self.path("--directory", "DIR", f"folder of the data sets (default: {default})")

    def json(self, content: str) -> None:
        """Adds the option that writes JSON to a file; its keyword is `file`."""
        self.path("--json", "FILE", f"write {content} to FILE", dest="file")


def add_command(
    commands: Subparsers, name: str, summary: str, handler: Callable[..., Any] | str
) -> Parser:
    """Adds a command; its function takes the options by name.

    **Arguments:** `handler` is the function, or `module:function`, imported when the command runs.
    """
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(handler=handler)
    return parser

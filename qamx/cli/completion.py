"""The script of `qamx completion`, with which a shell completes commands, options and names."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import shtab

from qamx import registry
from qamx.cli import build_parser
from qamx.cli.listing import KINDS
from qamx.config.toml import HERE, SUITES, domains, library, names

_FUNCTIONS = {
    "bash": """
{function}() {{
  compgen -W "{names} $(ls {folder} 2>/dev/null | sed -n 's/[.]toml$//p')" -- "$1"
  compgen -f -- "$1"
}}
""",
    "zsh": """
{function}() {{
  local -a names=({names} {folder}/*.toml(N:t:r))
  compadd -a names
  _files -g '*.toml(-.)'
}}
""",
    "fish": r"""
function {function}
  printf '%s\n' {names}
  ls {folder} 2>/dev/null | string replace -fr '\.toml$' ''
  __fish_complete_path (commandline -ct)
end
""",
}
"""Functions that complete packaged names, those of a folder's files, and paths."""


def print_script(shell: str) -> None:
    """Prints the script of a shell: `bash`, `zsh` or `fish`."""
    parser = build_parser()
    completers = _completers()
    for action in _arguments(parser):
        key = action.option_strings[0] if action.option_strings else action.metavar
        if key in completers:
            vars(action)["complete"] = completers[key]
        elif action.type is Path:
            folder = action.metavar in ("DIR", "FOLDER", "RUN")
            vars(action)["complete"] = shtab.DIRECTORY if folder else shtab.FILE
    print(shtab.complete(parser, shell))


def _completers() -> dict[Any, Any]:
    """The completer of a positional argument, by its metavar, and of an option, by its name."""
    packed = [name for name, _ in names(library())]
    suites = [name.removeprefix(f"{SUITES}/") for name in packed if name.startswith(f"{SUITES}/")]
    methods = _words(entry.name for entry in registry.agents)
    return {
        "FILE": _names_and_files("_qamx_experiment_files", packed, HERE),
        "SUITE": _names_and_files("_qamx_suite_files", suites, HERE / SUITES),
        **{"METHOD": methods, "--method": methods},
        "--domain": _words([*domains(), *domains().values(), "all"]),
        "WORD": _words(KINDS),
    }


def _words(known: Iterable[str]) -> Any:
    return shtab.cmd(f"printf '%s\\n' {' '.join(known)}")


def _names_and_files(function: str, known: Iterable[str], folder: Path) -> dict[str, Any]:
    values = {"function": function, "names": " ".join(known), "folder": folder}
    preamble = {shell: text.format(**values) for shell, text in _FUNCTIONS.items()}
    return {"bash": function, "zsh": function, "fish": f"({function})", "preamble": preamble}


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _arguments(command)
        else:
            yield action

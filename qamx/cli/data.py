"""Commands on data sets: data generate, download, inspect and expert."""

import argparse
from pathlib import Path
from typing import Any

from qamx.cli.options import (
    Subparsers,
    add_command,
    add_data_directory,
    add_integers,
    add_json,
    add_overrides,
    add_path,
)
from qamx.errors import ExitCode


def add_data(commands: Subparsers) -> None:
    """`qamx data` with its actions."""
    summary = "make, download and inspect data sets"
    parser = commands.add_parser("data", help=summary, description=f"{summary.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for add in (_add_generate, _add_download, _add_inspect, _add_expert):
        add(actions)


def _add_generate(actions: Subparsers) -> None:
    summary = "make an OGBench data set with its oracles"
    parser = add_command(actions, "generate", summary, _generate)
    parser.add_argument("name", metavar="NAME", help="such as cube-double-play")
    add_integers(
        parser,
        ("episodes", None, "training episodes, of each shard if sharded (default: OGBench's size)"),
        ("shards", None, "make a folder of this many files"),
        ("seed", 0, "seed of every draw (default: 0)"),
        ("workers", None, "processes (default: one a core)"),
    )
    add_data_directory(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a set that is there")


def _generate(name: str, **options: Any) -> int:
    from qamx.data.ogbench.generate import generate

    generate(name, **options)
    return ExitCode.DONE


def _add_download(actions: Subparsers) -> None:
    summary = "download OGBench data sets, or verify those that are there"
    parser = add_command(actions, "download", summary, _download)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="such as cube-double-play, cube-double-play-100m"
    )
    add_data_directory(parser)
    add_integers(parser, ("shards", None, "the first N files of a folder of shards (default: all)"))
    parser.add_argument(
        "--jobs",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="files at a time (default: 4)",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="fetch from here alone (default: $QAMX_MIRROR, else OGBench's, then a public copy)",
    )
    parser.add_argument("--again", action="store_true", help="download existing files again")


def _download(**options: Any) -> int:
    from qamx.data.ogbench.download import download

    download(**options)
    return ExitCode.DONE


def _add_inspect(actions: Subparsers) -> None:
    summary = "report on a data set: what it holds, and what is wrong with it"
    parser = add_command(actions, "inspect", summary, _inspect)
    parser.add_argument(
        "source", metavar="SOURCE", help="such as ogbench:cube-double-play-v0, or an experiment"
    )
    parser.add_argument(
        "--environment", metavar="ID", help="default: the experiment's or OGBench's"
    )
    add_integers(
        parser,
        ("task", None, "of the environment (default: all of them)"),
        ("horizon", None, "steps of a chunk (default: the experiment's, or 5)"),
        ("shards", None, "look at the first N (default: all)"),
    )
    add_data_directory(parser)
    add_path(parser, "html", "write a page with figures", "FILE")
    add_json(parser, "the report")
    parser.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")


def _inspect(
    source: str,
    environment: str | None,
    task: int | None,
    horizon: int | None,
    directory: Path | None,
    json: Path | None,
    **options: Any,
) -> int:
    from qamx.tools.inspect_data.inspection import SourceOptions
    from qamx.tools.inspect_data.output import inspect_data

    data = SourceOptions(environment, task, horizon, directory)
    return inspect_data(source, data, file=json, **options)


def _add_expert(actions: Subparsers) -> None:
    summary = "train the policy that walks in ant or humanoid mazes, or resume"
    parser = add_command(actions, "expert", summary, _expert)
    parser.add_argument(
        "walker", metavar="NAME", choices=("ant", "humanoid"), help="ant or humanoid"
    )
    add_integers(
        parser,
        ("steps", None, "environment steps (default: OGBench's, 400 thousand or 40 million)"),
        ("seed", None, "seed of the run (default: 10001)"),
    )
    add_data_directory(parser)
    add_overrides(parser)


def _expert(directory: Path | None, **options: Any) -> int:
    from qamx.data.ogbench.catalogue import default_directory
    from qamx.tools.train_expert import train_expert

    folder = default_directory() if directory is None else directory.expanduser()
    return train_expert(directory=folder, **options)

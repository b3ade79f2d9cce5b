"""Commands on data sets: data generate, download, inspect and expert."""

import argparse
from typing import Any

from qamx.cli.options import Subparsers, add_command


def add_data(commands: Subparsers) -> None:
    """`qamx data` with its actions."""
    summary = "make, download and inspect data sets"
    parser = commands.add_parser("data", help=summary, description=f"{summary.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for add in (_add_generate, _add_download, _add_inspect, _add_expert):
        add(actions)


def _add_generate(actions: Subparsers) -> None:
    summary = "make an OGBench data set with OGBench's scripted policies"
    parser = add_command(actions, "generate", summary, "qamx.data.ogbench.generate:generate")
    parser.add_argument("name", metavar="NAME", help="a data set, e.g. cube-double-play")
    episodes = "training episodes, per shard with --shards (default: OGBench's size)"
    parser.integers(
        ("--episodes", None, episodes),
        ("--shards", None, "make a folder of N files"),
        ("--seed", 0, "seed of every draw (default: 0)"),
        ("--workers", None, "processes (default: one per core)"),
    )
    parser.data_directory()
    parser.flag("--overwrite", "replace an existing data set")


def _add_download(actions: Subparsers) -> None:
    summary = "download OGBench data sets, and verify existing ones"
    parser = add_command(actions, "download", summary, "qamx.data.ogbench.download:download")
    names = "data sets, e.g. cube-double-play cube-double-play-100m"
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    parser.data_directory()
    parser.integers(("--shards", None, "download the first N shards (default: all)"))
    jobs: dict[str, Any] = {"type": int, "default": argparse.SUPPRESS, "metavar": "N"}
    parser.add_argument("--jobs", **jobs, help="parallel downloads (default: 4)")
    mirror = "download from this server only (default: $QAMX_MIRROR, or OGBench's and then a copy)"
    parser.add_argument("--mirror", metavar="URL", help=mirror)
    parser.flag("--force", "download existing files again", dest="again")
    parser.flag("--again", argparse.SUPPRESS)  # its former name


def _add_inspect(actions: Subparsers) -> None:
    summary = "report statistics and faults of a data set"
    function = "qamx.tools.inspect_data.output:inspect_data"
    parser = add_command(actions, "inspect", summary, function)
    source = "data, e.g. ogbench:cube-double-play-v0, or an experiment"
    parser.add_argument("source", metavar="SOURCE", help=source)
    environment = "environment to check against (default: the experiment's, or OGBench's)"
    parser.add_argument("--environment", metavar="ID", help=environment)
    parser.integers(
        ("--task", None, "task of the environment (default: all)"),
        ("--horizon", None, "steps of an action chunk (default: the experiment's, or 5)"),
        ("--shards", None, "inspect the first N shards (default: all)"),
    )
    parser.data_directory("the experiment's, else $QAMX_DATA or ~/.ogbench/data")
    parser.path("--html", "FILE", "write a page with figures")
    parser.json("the report")
    parser.flag("--strict", "exit with status 1 on warnings too")


def _add_expert(actions: Subparsers) -> None:
    summary = "train or resume the locomotion expert of antmaze-* or humanoidmaze-* data"
    parser = add_command(actions, "expert", summary, "qamx.tools.train_expert:train_expert")
    parser.choice("walker", ("ant", "humanoid"), "ant or humanoid", metavar="NAME")
    steps = "environment steps (default: OGBench's, 400 thousand or 40 million)"
    parser.integers(("--steps", None, steps), ("--seed", None, "seed of the run (default: 10001)"))
    parser.device()
    parser.data_directory()
    parser.overrides()

"""Commands on trained policies: eval, video, inspect and export."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qamx.cli.options import Subparsers, add_command, add_integers, add_json, add_path, add_run


def add_eval(commands: Subparsers) -> None:
    """`qamx eval`."""
    summary = "evaluate a run's policy, also while the run trains"
    parser = add_command(commands, "eval", summary, _eval)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, or of exports"
    )
    parser.add_argument(
        "--paired", action="store_true", help="compare two runs on the same reset seeds"
    )
    _add_episodes(parser, "episodes on each task (default: the experiment's)")
    add_integers(parser, ("workers", None, "processes, 0 for none (default: the experiment's)"))
    add_json(parser, "each episode")


def _eval(runs: Sequence[Path], paired: bool, json: Path | None, **options: Any) -> int:
    from qamx.evaluation.evaluate import EvaluationOptions, evaluate, evaluate_paired

    command = evaluate_paired if paired else evaluate
    return command(runs, EvaluationOptions(**options), json)


def add_video(commands: Subparsers) -> None:
    """`qamx video`."""
    summary = "film episodes of a run's policy as MP4 and GIF"
    parser = add_command(commands, "video", summary, _video)
    add_run(parser, "run", help="the folder of a run, or of an exported policy")
    _add_episodes(parser, "episodes of each task (default: 4 of one, 1 each of several)")
    out = "a file .mp4 or .gif, or a folder or name for both (default: the run's name, here)"
    add_path(parser, "out", out, "PATH")
    add_integers(parser, ("size", 320, "width of an episode's image in pixels (default: 320)"))
    parser.add_argument(
        "--fps", type=float, metavar="F", help="steps a second (default: the environment's)"
    )


def _video(run: Path, out: Path | None, size: int, fps: float | None, **options: Any) -> int:
    from qamx.evaluation.evaluate import EvaluationOptions
    from qamx.evaluation.video import video

    return video(run, EvaluationOptions(**options), out, size, fps)


def _add_episodes(parser: argparse.ArgumentParser, episodes: str) -> None:
    """Add the options of `EvaluationOptions`: which policy plays which episodes."""
    parser.add_argument(
        "--task",
        dest="tasks",
        nargs="+",
        action="extend",
        type=int,
        default=[],
        metavar="K",
        help="tasks of the environment (default: the one that was trained for)",
    )
    add_integers(
        parser,
        ("episodes", None, episodes),
        ("seed", None, "of resets and of the policy's draws (default: the run's)"),
        ("step", None, "of an older checkpoint that is kept (default: the newest)"),
    )
    parser.add_argument("--behaviour", action="store_true", help="also its clone of the data")


def add_inspect(commands: Subparsers) -> None:
    """`qamx inspect`."""
    summary = "inspect a run's policy, and report what is unhealthy"
    parser = add_command(commands, "inspect", summary, _inspect)
    add_run(parser, "run")
    parser.add_argument("--flow", action="store_true", help="write figures as a page, too")
    parser.add_argument(
        "--state",
        dest="where",
        nargs="+",
        action="extend",
        default=[],
        metavar="WHERE",
        help="rows of the data by number, or resets, or FILE.npz with observations",
    )
    add_integers(
        parser,
        ("states", 32, "how many states, where they are not named (default: 32)"),
        ("samples", 32, "action chunks at each state (default: 32)"),
        ("seed", 0, "seed of every draw (default: 0)"),
    )
    add_path(parser, "out", "the page's folder (default: RUN-inspect)", "DIR")
    add_json(parser, "all numbers")


def _inspect(run: Path, json: Path | None, **options: Any) -> int:
    from qamx.tools.inspect_policy.output import inspect_run

    return inspect_run(run, file=json, **options)


def add_export(commands: Subparsers) -> None:
    """`qamx export`."""
    summary = "export a run's policy to a folder that acts without the training code"
    parser = add_command(commands, "export", summary, _export)
    add_run(parser, "directory")
    parser.add_argument(
        "--format",
        dest="kind",
        choices=("bundle", "onnx"),
        default="bundle",
        help="a program of JAX's, or an ONNX model (default: bundle)",
    )
    add_path(parser, "out", "the folder to write (default: RUN-FORMAT)", "DIR")
    add_integers(parser, ("step", None, "of an older checkpoint (default: the newest)"))


def _export(**options: Any) -> int:
    from qamx.export.bundle import export_run

    return export_run(**options)

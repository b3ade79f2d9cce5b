"""Commands on trained policies: eval, video, inspect and export."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qamx.cli.options import Parser, Subparsers, add_command


def add_eval(commands: Subparsers) -> None:
    summary = "evaluate a run's latest checkpoint (safe during training)"
    parser = add_command(commands, "eval", summary, _eval)
    parser.path("runs", "RUN", "folders of runs or exports, or hf:USER/NAME", nargs="+")
    parser.flag("--paired", "compare two runs on the same reset seeds")
    _add_episodes(parser, "evaluate", "episodes per task (default: the experiment's)")
    parser.integers(("--workers", None, "worker processes, 0 for none (default: the experiment's)"))
    parser.json("each episode")


def _eval(runs: Sequence[Path], paired: bool, file: Path | None, **options: Any) -> int:
    from qamx.evaluation.evaluate import EvaluationOptions, evaluate, evaluate_paired

    command = evaluate_paired if paired else evaluate
    return command(runs, EvaluationOptions(**options), file)


def add_video(commands: Subparsers) -> None:
    summary = "film episodes of a run's policy as MP4 and GIF"
    parser = add_command(commands, "video", summary, _video)
    parser.run_folders("run", meaning="the folder of a run or an export, or hf:USER/NAME")
    _add_episodes(parser, "film", "episodes per task (default: 4 of one task, 1 each of several)")
    out = "an .mp4 or .gif file, or a folder or name for both (default: the run's name)"
    parser.path("--out", "PATH", out)
    parser.integers(("--size", 320, "width of an episode's image in pixels (default: 320)"))
    fps = "environment steps per second of film (default: the environment's)"
    parser.add_argument("--fps", type=float, metavar="F", help=fps)


def _video(run: Path, out: Path | None, size: int, fps: float | None, **options: Any) -> int:
    from qamx.evaluation.evaluate import EvaluationOptions
    from qamx.evaluation.video import video

    return video(run, EvaluationOptions(**options), out, size, fps)


def _add_episodes(parser: Parser, verb: str, episodes: str) -> None:
    """Adds the options of `EvaluationOptions`: which policy plays which episodes."""
    tasks = "tasks of the environment (default: the training task)"
    parser.several("--task", "K", tasks, dest="tasks", type=int)
    parser.integers(
        ("--episodes", None, episodes),
        ("--seed", None, "seed of resets and policy (default: the run's)"),
        ("--step", None, "step of an older kept checkpoint (default: the newest)"),
    )
    parser.flag("--behaviour", f"also {verb} behaviour cloning")
    strengths = f"{verb} a guided policy at these strengths (default: the experiment's)"
    parser.several("--strength", "W", strengths, dest="strengths", type=float)


def add_inspect(commands: Subparsers) -> None:
    summary = "inspect a run's policy, and report what is unhealthy"
    function = "qamx.tools.inspect_policy.output:inspect_run"
    parser = add_command(commands, "inspect", summary, function)
    parser.run_folders("directory")
    parser.flag("--html", "also write a page with figures")
    parser.flag("--flow", argparse.SUPPRESS, dest="html")  # its former name
    states = "states to inspect: row numbers of the data, resets, or FILE.npz with observations"
    parser.several("--state", "WHERE", states, dest="where")
    parser.integers(
        ("--states", 32, "number of states without --state (default: 32)"),
        ("--samples", 32, "action chunks per state (default: 32)"),
        ("--seed", 0, "random seed (default: 0)"),
    )
    parser.path("--out", "DIR", "the page's folder (default: RUN-inspect)")
    parser.json("all numbers")


def add_export(commands: Subparsers) -> None:
    summary = "export a run's policy to a folder that acts without the training code"
    parser = add_command(commands, "export", summary, "qamx.export.bundle:export_run")
    parser.run_folders("directory")
    formats = "JAX program or ONNX model (default: bundle)"
    parser.choice("--format", ("bundle", "onnx"), formats, dest="kind", default="bundle")
    parser.path("--out", "DIR", "the folder to write (default: RUN-FORMAT)")
    parser.integers(("--step", None, "step of an older kept checkpoint (default: the newest)"))
    strength = "strength of a guided policy's sampler (default: the experiment's)"
    parser.add_argument("--strength", type=float, metavar="W", help=strength)


def add_push(commands: Subparsers) -> None:
    summary = "publish a run or an exported policy on the Hugging Face Hub"
    parser = add_command(commands, "push", summary, "qamx.tools.hub:push")
    parser.path("folder", "RUN", "the folder of a run, or of an exported policy")
    parser.add_argument("repository", metavar="REPO", help="USER/NAME, created if new")
    license = "licence on the model card, e.g. mit (default: unknown)"
    parser.add_argument("--license", metavar="ID", default="unknown", help=license)
    parser.flag("--private", "make a private repository")
    parser.flag("--new-card", "replace an existing model card")


def add_pull(commands: Subparsers) -> None:
    summary = "download a run or an exported policy from the Hugging Face Hub, and verify it"
    parser = add_command(commands, "pull", summary, "qamx.tools.hub:pull")
    parser.add_argument("repository", metavar="REPO", help="USER/NAME, or USER/NAME@REVISION")
    parser.path("--out", "DIR", "the folder to write (default: runs/NAME)")
    parser.flag("--trust-code", "accept an experiment with plugins: loading it runs their code")

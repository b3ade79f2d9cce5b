"""A short run that tests of trained policies share."""

from pathlib import Path

from qamx.cli import main

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "experiments" / "quickstart.toml"
"""A point in a maze: its episodes have 1,000 steps, and take a tenth of a second."""

SIZES = (
    "agent.actor_hidden=[16]",
    "agent.critic_hidden=[16]",
    "agent.ensemble_size=2",
    "agent.flow_steps=2",
    "agent.batch_size=16",
    "agent.horizon=3",
)
"""Sizes of the agent in every run of an experiment file: with the same everywhere, tests find each
other's compiled programs."""

ONLINE = ("schedule.offline_steps=30", "schedule.online_steps=30", "schedule.online_warmup=6")
OFFLINE = (
    "schedule.kind=offline",
    "schedule.offline_steps=30",
    "schedule.online_steps=",
    "schedule.online_warmup=",
)


def maze_data(folder: Path) -> tuple[str, ...]:
    """The settings of data that the first run makes there."""
    return f"data.directory={folder}", "data.generate_episodes=1"


def short_run(folder: Path, *settings: str) -> Path:
    """The folder of a short run, evaluated and saved at its last step, 30."""
    own = (
        *SIZES,
        *OFFLINE,
        *maze_data(folder / "data"),
        "environment.task=2",
        "evaluation.every=30",
        "evaluation.episodes=3",
        "evaluation.environments=2",
        "evaluation.workers=0",
        "checkpoint.every=10",
    )
    out = folder / "run"
    assert main(["run", str(QUICKSTART), "--out", str(out), "--set", *own, *settings]) == 0
    return out

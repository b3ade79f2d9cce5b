"""A short run that tests of trained policies share."""

from pathlib import Path

from qamx.cli import main

ROOT = Path(__file__).parents[2]
SMALL = (
    "environment.task=2",
    "data.directory={folder}",
    "data.generate_episodes=1",
    "agent.actor_hidden=[16]",
    "agent.critic_hidden=[16]",
    "agent.ensemble_size=2",
    "agent.flow_steps=2",
    "agent.batch_size=16",
    "schedule.kind=offline",
    "schedule.offline_steps=30",
    "schedule.online_steps=",
    "schedule.online_warmup=",
    "evaluation.every=30",
    "evaluation.episodes=3",
    "evaluation.environments=2",
    "evaluation.workers=0",
    "checkpoint.every=10",
)
"""A point in a maze: its episodes have 1,000 steps, and take a tenth of a second."""


def short_run(folder: Path, *settings: str) -> Path:
    """The folder of a short run, evaluated and saved at its last step, 30."""
    own = [text.format(folder=folder / "data") for text in SMALL]
    quickstart, out = str(ROOT / "experiments" / "quickstart.toml"), folder / "run"
    assert main(["run", quickstart, "--out", str(out), "--set", *own, *settings]) == 0
    return out

"""`qamx data expert`: a run of a walker's recipe, whose policy becomes a file."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qamx.config import Experiment, load
from qamx.config.datasets import WalkDataSettings
from qamx.data.ogbench.catalogue import default_directory
from qamx.data.ogbench.expert import Expert, Layer, expert_path, read_expert, write_expert
from qamx.data.ogbench.rollout import Stamp, read_stamp
from qamx.envs.ogbench import WalkEnvironment, Walker
from qamx.errors import ExitCode, UserError
from qamx.policies import GaussianPolicy
from qamx.running import run
from qamx.trained_policy import load_agent

EPISODES = 10
"""Episodes for evaluating an expert."""


def recipe(walker: Walker) -> Path:
    """The experiment file that trains a walker's expert."""
    return Path(__file__).with_name(f"{walker}.toml")


def train_expert(
    walker: Walker,
    directory: Path | None,
    *,
    steps: int | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
) -> ExitCode:
    """Trains (or resumes) a walker's expert in `directory/experts`, and exports it at the end.

    The run's folder has the walker's name, and the policy's file lies next to it. An existing
    expert from the same arguments is kept and evaluated again.

    **Arguments:**

    - `directory`: the folder of data sets; by default the user's.
    - `steps`: all environment steps with the first random ones; by default OGBench's.
    - `overrides`: texts `section.key=value` over the recipe.

    **Raises:** `UserError` if another expert is there already, or settings are wrong.
    """
    experiment = _experiment(walker, steps, seed, overrides)
    folder = default_directory() if directory is None else directory.expanduser()
    path = expert_path(walker, folder)
    stamp = _stamp(walker, experiment)
    if not path.exists():
        try:
            code = run(experiment, path.with_suffix(""))
        except UserError as error:
            # The option of the run's folder has another name here.
            raise UserError(str(error).replace("--out", "--directory")) from error
        if code != ExitCode.DONE:
            return code
        write_expert(path, layers_of(path.with_suffix("")), stamp)
    elif read_stamp(path) != stamp:
        raise UserError(
            f"{path}: an expert from another seed or other settings, with which data may have "
            "been generated; move it away, or name another place with --directory"
        )
    print(_description(path, walker), flush=True)
    return ExitCode.DONE


def _experiment(
    walker: Walker, steps: int | None, seed: int | None, overrides: Sequence[str]
) -> Experiment:
    experiment = load(recipe(walker), overrides, seed)
    if steps is None:
        return experiment
    first = experiment.data.steps if isinstance(experiment.data, WalkDataSettings) else 0
    if steps <= first:
        raise UserError(
            f"--steps: found {steps}, and the first {first} steps are random; write more than that"
        )
    return load(recipe(walker), [*overrides, f"schedule.online_steps={steps - first}"], seed)


def _stamp(walker: Walker, experiment: Experiment) -> Stamp:
    """The settings that determine the expert, for its file."""
    sections = experiment.to_dict()
    settings = {name: sections[name] for name in ("environment", "data", "agent", "schedule")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {"walker": walker, "seed": experiment.seed, "settings": digest}


def layers_of(run_directory: Path) -> list[Layer]:
    """The layers from observation to mean action that a run's newest checkpoint has.

    **Raises:** `UserError` if the run's method isn't one Gaussian network.
    """
    policy = load_agent(run_directory).policy
    if not isinstance(policy, GaussianPolicy):
        raise UserError(
            f"{run_directory}: an expert is one Gaussian network, found {type(policy).__name__}; "
            'write agent.method = "rlpd"'
        )
    linear = [*policy.actor.trunk.layers, policy.actor.mean]
    return [(np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in linear]


def _description(path: Path, walker: Walker) -> str:
    expert = read_expert(path, walker)
    returns, falls = evaluate_expert(expert, walker, EPISODES)
    metres = " metres" if walker == "ant" else ""
    return (
        f"expert: {path}, SHA-256 {expert.sha256}; in {EPISODES} episodes it goes "
        f"{np.mean(returns):.1f}{metres} in its directions on average and falls {falls} times"
    )


def evaluate_expert(expert: Expert, walker: Walker, episodes: int) -> tuple[list[float], int]:
    """The returns of episodes of the walker's task, and the number of falls."""
    environment = WalkEnvironment(walker)
    returns, falls = [], 0
    for seed in range(episodes):
        observation, total, done = environment.reset(seed), 0.0, False
        while not done:
            step = environment.step(expert.act(observation))
            observation, done = step.observation, step.done
            total += step.reward
            falls += step.terminated
        returns.append(total)
    environment.close()
    return returns, falls

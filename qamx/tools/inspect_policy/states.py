"""The inspected run, and the states of the inspection."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from qamx._utils.files import read_json_lines
from qamx.agents import AbstractAgent
from qamx.building import build_data, build_environment
from qamx.config import Experiment
from qamx.data.source import normalise
from qamx.data.transitions import Transitions
from qamx.data.validation import BROKEN
from qamx.envs import opened
from qamx.errors import UserError
from qamx.normalisation import Normalisation, NormalisedEnvironment
from qamx.provenance import read
from qamx.trained_policy import load_experiment, load_snapshot
from qamx.training.plan import evaluation_seeds

LogRow = dict[str, Any]
"""A row of `metrics.jsonl` or `evaluations.jsonl`."""


@dataclass(frozen=True)
class InspectedRun:
    """A run, and the agent of its newest intact checkpoint.

    **Arguments:** `step` is the checkpoint's; `data` is the first shard in the policy's units,
    None if the data files are not on this machine; `metrics` and `evaluations` are the log.
    """

    directory: Path
    experiment: Experiment
    agent: AbstractAgent
    step: int
    scaling: Normalisation
    data: Transitions | None
    metrics: list[LogRow]
    evaluations: list[LogRow]

    @property
    def phase(self) -> str:
        """The phase of the checkpoint, by the log."""
        rows = [row for row in self.metrics if row["step"] >= self.step] or self.metrics[-1:]
        return rows[0]["phase"] if rows else "not logged yet"

    @property
    def evaluation(self) -> LogRow | None:
        """The last evaluation before the checkpoint."""
        rows = [row for row in self.evaluations if row["step"] <= self.step]
        return rows[-1] if rows else None

    def open_environment(self) -> NormalisedEnvironment:
        """The environment in the policy's units."""
        return NormalisedEnvironment(build_environment(self.experiment.environment), self.scaling)


def load_run(directory: Path) -> InspectedRun:
    """The run of a folder.

    **Raises:** `UserError` if the folder holds no run or no intact checkpoint, or its data are
    damaged.
    """
    experiment = load_experiment(directory)
    try:
        step, agent = load_snapshot(directory)
    except UserError as error:
        broken = not_finite_at(directory)
        raise UserError(f"{error}{broken and f' (but: {broken})'}") from error
    scaling = Normalisation.load(directory)
    data = _data(directory, experiment, scaling)
    logs = (read_json_lines(directory / f"{name}.jsonl") for name in ("metrics", "evaluations"))
    return InspectedRun(directory, experiment, agent, step, scaling, data, *logs)


def not_finite_at(directory: Path) -> str:
    """The run's record of its last non-finite update; empty without one."""
    reports = [json.loads(p.read_bytes()) for p in directory.glob("nonfinite/step-*/report.json")]
    if not reports:
        return ""
    last = max(reports, key=lambda report: report["step"])
    return (
        f"update {last['update']:,} brought {', '.join(last['not_finite'])} that is not finite; "
        f"nonfinite/step-{last['step']} has its batch"
    )


def _data(directory: Path, experiment: Experiment, scaling: Normalisation) -> Transitions | None:
    """The first shard; None if a file is missing, as nothing is generated or downloaded."""
    files = [Path(entry["file"]) for entry in read(directory)["data"]]
    if not all(file.exists() for file in files):
        return None
    return normalise(build_data(experiment.data, experiment.environment).load(0), scaling)


RESETS = "resets"
"""The name of the first observations of evaluation episodes."""

NEAR, SEARCHED = 40, 20_000
"""Nearest chunks of the data for each state, and the rows that are searched."""

CALIBRATION = 400
"""Windows of the data whose returns are compared with the critic."""

TAIL = 0.05
"""A return is known if rewards after the episode weigh less than this."""


@dataclass(frozen=True)
class States:
    """Chosen states: `names` and `observations` have an entry a state; `origin` describes them.

    `actions` are the data's chunks at these states, None for states outside the data; `near` are
    those at the nearest other states, None without data.
    """

    origin: str
    names: tuple[str, ...]
    observations: Float[np.ndarray, "states obs"]
    actions: Float[np.ndarray, "states dim"] | None = None
    near: Float[np.ndarray, "states near dim"] | None = None


@dataclass(frozen=True)
class Windows:
    """Windows of the data; `returns` are from their first row, NaN if unknown."""

    observations: Float[np.ndarray, "windows obs"]
    actions: Float[np.ndarray, "windows dim"]
    returns: Float[np.ndarray, " windows"]


def select_states(run: InspectedRun, where: Sequence[str], count: int, seed: int) -> States:
    """The states that `where` names: rows of the data, `resets`, or a file.

    An empty `where` draws `count` states from the data, or resets if there are no data.

    **Raises:** `UserError` for states that do not exist.
    """
    if not where:
        where = () if run.data is not None else (RESETS,)
    if list(where) == [RESETS]:
        states = _resets(run, count)
    elif len(where) == 1 and where[0].endswith(".npz"):
        states = _of_file(run, Path(where[0]))
    else:
        states = _of_data(run, where, count, seed)
    return states if run.data is None else replace(states, near=_nearest(run, run.data, states))


def _of_data(run: InspectedRun, where: Sequence[str], count: int, seed: int) -> States:
    data, horizon = run.data, run.experiment.agent.horizon
    if data is None:
        raise UserError(
            "--state: the run's data files are missing, so there are no rows; try resets"
        )
    starts = whole_windows(data, horizon)
    rows = _named_rows(where, starts) if where else sample_rows(starts, count, seed)
    names = tuple(f"row {row:,}" for row in rows)
    observations = np.asarray(data.observations)[rows]
    return States("rows of the data", names, observations, chunks(data, rows, horizon))


def _named_rows(where: Sequence[str], starts: Int[np.ndarray, " starts"]) -> np.ndarray:
    for word in where:
        if not word.isdecimal():
            raise UserError(
                f'--state: found "{word}"; write rows of the data, as in 0 4000, or {RESETS}, or '
                "a file NAME.npz with an array observations"
            )
    rows = np.array([int(word) for word in where])
    lost = np.setdiff1d(rows, starts)
    if lost.size:
        raise UserError(
            f"--state: no whole chunk begins at row {lost[0]:,} of the data (rows up to "
            f"{starts[-1]:,}, and none shortly before an episode's end)"
        )
    return rows


def _resets(run: InspectedRun, count: int) -> States:
    with opened(run.open_environment) as env:
        seen = [env.reset(seed) for seed in evaluation_seeds(run.experiment.seed, count)]
    names = tuple(f"episode {index}" for index in range(count))
    return States("first states of evaluation episodes", names, np.stack(seen))


def _of_file(run: InspectedRun, path: Path) -> States:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = np.asarray(file["observations"], np.float32)
    except (*BROKEN, TypeError) as error:
        raise UserError(
            f"--state: {path}: cannot be read ({error}); write observations with numpy.savez"
        ) from error
    with opened(run.open_environment) as env:
        size = env.observation_size
    if found.ndim != 2 or found.shape[1] != size or not len(found):
        shape = f"observations of shape {found.shape}"
        raise UserError(f"--state: {path}: {shape}; write (states, {size})")
    if not np.isfinite(found).all():
        row = np.flatnonzero(~np.isfinite(found).all(axis=1))[0]
        raise UserError(f"--state: {path}: row {row} has entries that are not finite; leave it out")
    names = tuple(f"{path.name} {index}" for index in range(len(found)))
    return States(f"states of {path.name}", names, run.scaling.observations(found))


def whole_windows(data: Transitions, horizon: int) -> Int[np.ndarray, " starts"]:
    """The first rows of chunks that lie inside an episode."""
    count = len(data) - horizon + 1
    ended = np.cumsum(np.append(0.0, np.asarray(data.ends)))
    return np.flatnonzero(ended[horizon - 1 : horizon - 1 + count] == ended[:count])


def sample_rows(starts: Int[np.ndarray, " starts"], count: int, seed: int) -> np.ndarray:
    """Up to `count` of the rows, without replacement."""
    if not len(starts):
        raise UserError("the data hold no whole chunk; qamx data inspect says more")
    return np.random.default_rng(seed).choice(starts, min(count, len(starts)), replace=False)


def chunks(
    data: Transitions, rows: Int[np.ndarray, " rows"], horizon: int
) -> Float[np.ndarray, "rows dim"]:
    """The flat action chunks that begin at the rows."""
    steps = rows[:, None] + np.arange(horizon)
    return np.asarray(data.actions)[steps].reshape(len(rows), -1)


def _nearest(run: InspectedRun, data: Transitions, states: States) -> np.ndarray:
    """The chunks of the data's states nearest to each state, in units of their deviation."""
    horizon = run.experiment.agent.horizon
    rows = sample_rows(whole_windows(data, horizon), SEARCHED, 0)
    candidates = np.asarray(data.observations)[rows]
    scale = np.where((deviation := candidates.std(axis=0)) > 0, deviation, 1.0)
    near = []
    for observation in states.observations:
        distance = np.sum(((candidates - observation) / scale) ** 2, axis=1)
        near.append(chunks(data, rows[np.argsort(distance)[:NEAR]], horizon))
    return np.stack(near)


def calibration(run: InspectedRun, seed: int) -> Windows | None:
    """Windows of the data with their returns; None without data."""
    data, agent = run.data, run.experiment.agent
    if data is None:
        return None
    rows = sample_rows(whole_windows(data, agent.horizon), CALIBRATION, seed + 1)
    last = np.flatnonzero(np.append(np.asarray(data.ends)[:-1], 1))
    ends = last[np.searchsorted(last, rows)] + 1
    rewards, masks = np.asarray(data.rewards), np.asarray(data.masks)
    returns = [
        discounted_return(rewards[row:end], masks[row:end], agent.discount)
        for row, end in zip(rows, ends, strict=True)
    ]
    observations = np.asarray(data.observations)[rows]
    return Windows(observations, chunks(data, rows, agent.horizon), np.array(returns))


def discounted_return(
    rewards: Float[np.ndarray, " steps"], masks: Float[np.ndarray, " steps"], discount: float
) -> float:
    """The return to an episode's end, NaN if it is not `TAIL`-exact; a mask of 0 ends it."""
    reached = np.cumprod(np.append(1.0, discount * masks))
    return float(np.sum(reached[:-1] * rewards)) if reached[-1] < TAIL else float("nan")

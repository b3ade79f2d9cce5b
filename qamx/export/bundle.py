"""The folder of an exported policy: written whole, checked against the training code."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from qamx.bench.products import Floor, count
from qamx.config import Experiment
from qamx.deploy import metadata as files
from qamx.deploy.checking import Check, check
from qamx.deploy.metadata import Kind, Metadata
from qamx.envs import Environment
from qamx.envs.scaling import Scaling
from qamx.errors import RunError, UserError
from qamx.export.onnx import export_onnx, recorded
from qamx.export.sampler import PLATFORMS, export_sampler
from qamx.runner.keys import evaluation_seeds
from qamx.trained import TrainedPolicy, load_experiment, load_snapshot
from qamx.worlds import build_environment

EPISODES, CHUNKS = 4, 4
"""Recorded observations: the first of so many chunks in so many episodes."""

LATENCY_CALLS, FLOOR_ROUNDS = 300, 20

GOLDEN_SEED = 0


@dataclass(frozen=True)
class Source:
    """A run's policy, and the observations that its actions are recorded for."""

    directory: Path
    experiment: Experiment
    step: int
    policy: TrainedPolicy
    observations: Float[np.ndarray, "rows obs"]

    @classmethod
    def of_run(cls, directory: Path, step: int | None = None) -> "Source":
        """The policy of a run at its newest checkpoint, or at that of `step`.

        **Raises:** `UserError` if the directory holds no run, or no such checkpoint.
        """
        experiment = load_experiment(directory)
        snapshot = load_snapshot(directory, step)
        horizon, precision = experiment.agent.horizon, experiment.compute.precision
        policy = TrainedPolicy(snapshot.agent, Scaling.load(directory), horizon, precision)
        environment = build_environment(experiment.environment)()
        try:
            observations = _observations(environment, policy, experiment.seed)
        finally:
            environment.close()
        return cls(directory, experiment, snapshot.step, policy, observations)

    @property
    def key(self) -> Any:
        """The key of the recorded actions."""
        return jax.random.key(GOLDEN_SEED)

    def evaluation(self) -> dict[str, Any] | None:
        """The run's own evaluation at this step, if there was one."""
        path = self.directory / "evaluations.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text.rpartition("\n")[0].splitlines()  # the run may be writing the last line
        rows = [row for row in map(json.loads, whole) if row["step"] == self.step]
        return rows[-1] if rows else None

    def floor_ms(self) -> float:
        """Milliseconds that a chunk's matrix products take here, one after the other."""
        agent = self.policy.agent
        seen = self.policy.scaling.observations(self.observations[:1])
        floor = Floor(count(lambda x, key: agent.act_in_evaluation(x, key), seen, self.key))
        for _ in range(FLOOR_ROUNDS):
            floor.round()
        return 1e3 * floor.seconds


def _observations(
    environment: Environment, policy: TrainedPolicy, seed: int
) -> Float[np.ndarray, "rows obs"]:
    """Observations of the policy's own episodes, at the beginnings of chunks."""
    rows: list[np.ndarray] = []
    for episode, reset_seed in enumerate(evaluation_seeds(seed, EPISODES)):
        observation = environment.reset(reset_seed)
        for call in range(CHUNKS):
            rows.append(observation)
            key = jax.random.fold_in(jax.random.key(episode), call)
            for action in policy.act(observation[None], key)[0]:
                step = environment.step(action)
                observation = step.observation
                if step.done:
                    break
            else:
                continue
            break
    return np.stack(rows)


def write_bundle(source: Source, kind: Kind, folder: Path, calls: int = LATENCY_CALLS) -> Check:
    """Writes a run's policy as a folder, reads it back, and compares what it does.

    The folder appears when it is complete; one that is there is replaced by another export only.

    **Raises:** `UserError` for a folder that holds something else, `RunError` if the exported
    policy does not do what the training code does.
    """
    folder = folder.resolve()
    partial = _begun(folder)
    try:
        metadata = _WRITERS[kind](source, partial)
        shutil.copyfile(source.directory / "config.toml", partial / files.EXPERIMENT)
        _finish(metadata, partial)
        found = check(partial, calls)
        if not found.passed:
            raise RunError(
                f"the exported policy's actions differ by {found.difference:.1e} from the training "
                "code's (units of [-1, 1]); nothing was written"
            )
        _finish(replace(metadata, latency=_latency(found, source.floor_ms())), partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _begun(folder: Path) -> Path:
    """A new folder beside the one that is to be written."""
    require_free(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); name another --out"
        ) from error
    return partial


def require_free(folder: Path) -> None:
    """Raises `UserError` if there is something else than an exported policy."""
    if folder.exists() and not (folder / files.FILE_NAME).is_file():
        raise UserError(
            f"{folder}: there is something else, not an exported policy; name another --out"
        )


def _jax_files(source: Source, folder: Path) -> Metadata:
    policy = source.policy
    sampler = export_sampler(policy.agent, source.observations.shape[1], policy.precision)
    (folder / files.SAMPLER).write_bytes(sampler.program)
    arrays = {str(index): weight for index, weight in enumerate(sampler.weights)}
    np.savez(folder / files.WEIGHTS, allow_pickle=False, **arrays)
    _record(source, folder, {})
    convention = sampler.convention
    return replace(
        _described(source), kind="bundle", platforms=PLATFORMS, calling_convention=convention
    )


def _onnx_files(source: Source, folder: Path) -> Metadata:
    policy = source.policy
    size, units = source.observations.shape[1], policy.scaling.units
    exported = export_onnx(policy.agent, size, units, policy.horizon)
    (folder / files.MODEL).write_bytes(exported.model)
    seen = policy.scaling.observations(source.observations)
    _record(source, folder, recorded(policy.agent, seen, source.key, exported.draws))
    return replace(_described(source), kind="onnx", platforms=("onnx",), draws=exported.draws)


_WRITERS: dict[Kind, Callable[[Source, Path], Metadata]] = {
    "bundle": _jax_files,
    "onnx": _onnx_files,
}


def _record(source: Source, folder: Path, draws: dict[str, np.ndarray]) -> None:
    """The actions of the training code, with all that decides them."""
    arrays = {
        "observations": source.observations,
        "key_data": np.asarray(jax.random.key_data(source.key)),
        "actions": source.policy.act(source.observations, source.key),
        **draws,
    }
    np.savez(folder / files.GOLDEN, allow_pickle=False, **arrays)


def _described(source: Source) -> Metadata:
    experiment, policy = source.experiment, source.policy
    action_size = policy.act(source.observations[:1], source.key).shape[-1]
    return Metadata(
        kind="bundle",
        observation_size=source.observations.shape[1],
        action_size=action_size,
        horizon=policy.horizon,
        observation_keys=experiment.environment.observation_order,
        units=policy.scaling.units,
        draws=(),
        platforms=(),
        calling_convention=None,
        policy={
            "method": experiment.agent.method,
            "run": source.directory.resolve().name,
            "step": source.step,
            "seed": experiment.seed,
            "precision": policy.precision,
        },
        environment=experiment.environment.model_dump(mode="json"),
        made_with={"qamx": _version("qamx"), "jax": _version("jax")},
        evaluation=source.evaluation(),
        latency={},
        files={},
    )


def _finish(metadata: Metadata, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != files.FILE_NAME)
    replace(metadata, files={name: files.sha256(folder / name) for name in names}).write(folder)


def _latency(found: Check, floor_ms: float) -> dict[str, float]:
    return {
        **asdict(found.latency),
        "products_ms": floor_ms,
        "over_products": found.latency.median_ms / floor_ms,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(a source tree)"

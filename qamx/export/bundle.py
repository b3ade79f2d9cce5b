"""`qamx export`: the folder of an exported policy, and the program that samples it."""

import contextlib
import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters import partial_eval
from jaxtyping import Array, Float, UInt

from qamx._types import Key
from qamx._utils.files import describe_write_error, package_version, read_json_lines, sha256
from qamx._utils.flops import MatmulLowerBound, count
from qamx._utils.machine import use_cpu
from qamx._utils.terminal import working
from qamx.agents import AbstractAgent
from qamx.building import build_environment
from qamx.config import Experiment
from qamx.deploy import metadata as files
from qamx.deploy.check import Check, check
from qamx.deploy.metadata import SAMPLER, WEIGHTS, Kind, Metadata, read_metadata
from qamx.envs import Environment, opened
from qamx.envs.checked import checked_reset, checked_step
from qamx.errors import ExitCode, RunError, UserError
from qamx.export.onnx import export_onnx, recorded
from qamx.nn import Precision, matmul_precision
from qamx.normalisation import Normalisation
from qamx.trained_policy import TrainedPolicy, load_experiment, load_snapshot, with_strength
from qamx.training.plan import evaluation_seeds

EPISODES, CHUNKS = 4, 4
"""Golden observations: episodes, and chunk starts in each."""

RECORDED_SEED = 0
"""The seed of the golden actions."""

FLOOR_ROUNDS = 20


@dataclass(frozen=True)
class ExportSource:
    """A run's policy with golden observations, in the environment's units."""

    directory: Path
    experiment: Experiment
    step: int
    policy: TrainedPolicy
    observations: Float[np.ndarray, "rows obs"]
    strength: float | None = None

    @classmethod
    def of_run(
        cls, directory: Path, step: int | None = None, strength: float | None = None
    ) -> "ExportSource":
        """The policy of a run at its newest checkpoint, or at that of `step`, with its own strength
        of sampling or another.

        **Raises:** `UserError` if the directory holds no run, or no such checkpoint, or its sampler
        no such strength.
        """
        experiment = load_experiment(directory)
        step, agent = load_snapshot(directory, step)
        agent = with_strength(agent, strength, str(directory))
        horizon, precision = experiment.agent.horizon, experiment.compute.precision
        policy = TrainedPolicy(agent, Normalisation.load(directory), horizon, precision)
        with opened(build_environment(experiment.environment)) as environment:
            observations = []
            for episode, seed in enumerate(evaluation_seeds(experiment.seed, EPISODES)):
                key = jax.random.key(episode)
                observations += _rollout_observations(environment, policy, seed, key)
        return cls(directory, experiment, step, policy, np.stack(observations), strength)

    @property
    def key(self) -> Key:
        """The key of the golden actions."""
        return jax.random.key(RECORDED_SEED)

    @functools.cached_property
    def actions(self) -> Float[np.ndarray, "rows horizon act"]:
        """The golden actions, by the training code."""
        return self.policy.act(self.observations, self.key)

    def evaluation(self) -> dict[str, Any] | None:
        """The run's evaluation of this policy, if there was one."""
        if self.strength is not None:
            return None
        rows = read_json_lines(self.directory / "evaluations.jsonl")
        return next((row for row in reversed(rows) if row["step"] == self.step), None)

    def floor_ms(self) -> float:
        """Milliseconds of a chunk's matrix products on this machine, one after the other."""
        act = self.policy.agent.act_in_evaluation
        seen = self.policy.scaling.observations(self.observations[:1])
        floor = MatmulLowerBound(count(lambda x, key: act(x, key), seen, self.key))
        for _ in range(FLOOR_ROUNDS):
            floor.round()
        return 1e3 * floor.seconds


def _rollout_observations(
    environment: Environment, policy: TrainedPolicy, seed: int, key: Key
) -> Iterator[Float[np.ndarray, " obs"]]:
    """The observations of an episode of the policy at its chunk starts."""
    observation = checked_reset(environment, seed)
    for call in range(CHUNKS):
        yield observation
        for action in policy.act(observation[None], jax.random.fold_in(key, call))[0]:
            step = checked_step(environment, action)
            if step.done:
                return
            observation = step.observation


LATENCY_CALLS = 300
"""Timed chunks."""


def write_bundle(source: ExportSource, kind: Kind, folder: Path) -> Check:
    """Writes a run's policy as a folder, reads it back, and compares its actions.

    The folder appears when it is complete; an earlier export is replaced.

    **Raises:** `UserError` for a folder with other content, `RunError` if the exported policy's
    actions differ from the training code's, or the folder cannot be written.
    """
    folder = folder.resolve()
    require_free(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        text = f"{folder}: cannot be written ({error.strerror}); name another --out"
        raise UserError(text) from error
    try:
        metadata = (_jax_files if kind == "bundle" else _onnx_files)(source, partial)
        shutil.copyfile(source.directory / "config.toml", partial / files.EXPERIMENT)
        _finish(metadata, partial)
        result = check(partial, LATENCY_CALLS)
        if not result.passed:
            raise RunError(
                f"the exported policy's actions differ by {result.difference:.1e} from the "
                "training code's (units of [-1, 1]); nothing was written"
            )
        floor, latency = source.floor_ms(), asdict(result.latency)
        latency |= {"products_ms": floor, "over_products": result.latency.median_ms / floor}
        _finish(replace(metadata, latency=latency), partial)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():  # an earlier export stays until the new one is whole
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(describe_write_error(error, folder.parent)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def require_free(folder: Path) -> None:
    """**Raises:** `UserError` if the folder exists and is no exported policy."""
    if folder.exists() and not (folder / files.FILE_NAME).is_file():
        raise UserError(
            f"{folder}: there is something else, not an exported policy; name another --out"
        )


def _jax_files(source: ExportSource, folder: Path) -> Metadata:
    policy = source.policy
    sampler = export_sampler(policy.agent, source.observations.shape[1], policy.precision)
    sampler.write(folder)
    _record(source, folder, {})
    described = _described(source, "bundle")
    return replace(described, platforms=PLATFORMS, calling_convention=sampler.convention)


def _onnx_files(source: ExportSource, folder: Path) -> Metadata:
    policy = source.policy
    size, units = source.observations.shape[1], policy.scaling.units
    exported = export_onnx(policy.agent, size, units, policy.horizon)
    (folder / files.MODEL).write_bytes(exported.model)
    seen = policy.scaling.observations(source.observations)
    _record(source, folder, recorded(policy.agent, seen, source.key, exported.draws))
    return replace(_described(source, "onnx"), platforms=("onnx",), draws=exported.draws)


def _record(source: ExportSource, folder: Path, draws: dict[str, np.ndarray]) -> None:
    """Writes the golden actions with their observations, key and draws."""
    arrays = {
        "observations": source.observations,
        "key_data": np.asarray(jax.random.key_data(source.key)),
        "actions": source.actions,
        **draws,
    }
    np.savez(folder / files.GOLDEN, allow_pickle=False, **arrays)


def _described(source: ExportSource, kind: Kind) -> Metadata:
    experiment, policy = source.experiment, source.policy
    return Metadata(
        kind=kind,
        observation_size=source.observations.shape[1],
        action_size=source.actions.shape[-1],
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
            "strength": policy.agent.policy.strength,
        },
        environment=experiment.environment.model_dump(mode="json"),
        made_with={name: package_version(name) or "(a source tree)" for name in ("qamx", "jax")},
        evaluation=source.evaluation(),
        latency={},
        files={},
    )


def _finish(metadata: Metadata, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != files.FILE_NAME)
    replace(metadata, files={name: sha256(folder / name) for name in names}).write(folder)


def export_run(
    directory: Path, kind: Kind, out: Path | None, step: int | None, strength: float | None
) -> int:
    """Writes the policy of a run, by default next to the run's folder, and logs a summary.

    **Raises:** `UserError` for a run, folder or strength that cannot be, `RunError` if the exported
    policy's actions differ from the training code's.
    """
    use_cpu()
    name = directory.resolve().name
    folder = out or directory.resolve().with_name(f"{name}-{kind}")
    require_free(folder)
    source = ExportSource.of_run(directory, step, strength)
    with working("exporting and checking the policy"):
        result = write_bundle(source, kind, folder)
    metadata = read_metadata(folder)
    same = "bitwise" if result.bitwise else f"within {result.difference:.0e}"
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    latency = metadata.latency
    lines = {
        "policy": f"{metadata.policy['method']} of {name}, step {source.step:,}",
        "observations": f"{metadata.observation_size} dimensions",
        "actions": f"chunks of {metadata.horizon} x {metadata.action_size}, steps by dimensions",
        "runs on": ", ".join(metadata.platforms),
        "check": f"{same} the training code's actions, on {result.rows} observations",
        "a chunk": (
            f"median {latency['median_ms']:.2f} ms, 99% {latency['p99_ms']:.2f} ms; "
            f"its matrix products {latency['products_ms']:.2f} ms"
        ),
        "written": f"{folder} ({size:.1f} MiB)",
    }
    for label, text in lines.items():
        logging.getLogger("qamx").info(f"{label:<13}{text}")
    return ExitCode.DONE


PLATFORMS = ("cpu", "cuda")
LOCATIONS = "jax_traceback_in_locations_limit"


class Sampler(NamedTuple):
    """A program (StableHLO, `Exported.mlir_module_serialized`), the version of its calling
    convention, and the arrays that are its first argument."""

    program: bytes
    convention: int
    weights: list[np.ndarray]

    def write(self, folder: Path) -> None:
        """Writes program and weights where `qamx.deploy` reads them."""
        (folder / SAMPLER).write_bytes(self.program)
        arrays = {str(index): weight for index, weight in enumerate(self.weights)}
        np.savez(folder / WEIGHTS, allow_pickle=False, **arrays)


@contextlib.contextmanager
def _without_source_paths() -> Iterator[None]:
    """Programs do not name the files and folders that their operations were written in."""
    frames = getattr(jax.config, LOCATIONS)
    jax.config.update(LOCATIONS, 0)
    try:
        yield
    finally:
        jax.config.update(LOCATIONS, frames)


def export_sampler(agent: AbstractAgent, observation_size: int, precision: Precision) -> Sampler:
    """The program of the agent's sampler as in evaluations.

    It takes the weights, observations [b, obs] in the policy's units, and the two words of a
    key; it gives flat chunks [b, dim]. Weights are arguments as in training: as constants they
    would be folded into the program, which then rounds differently.

    **Arguments:** `precision` is that of matrix products.
    """
    arrays, static = eqx.partition(agent, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def act(
        whole: list[Array], observations: Float[Array, "b obs"], words: UInt[Array, "2"]
    ) -> Float[Array, "b dim"]:
        agent = eqx.combine(jax.tree.unflatten(structure, whole), static)
        return agent.act_in_evaluation(observations, jax.random.wrap_key_data(words))

    seen = jax.ShapeDtypeStruct((1, observation_size), jnp.float32)
    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    needed = _used(act, leaves, seen, words)

    def act_with_needed(
        weights: list[Array], observations: Float[Array, "b obs"], words: UInt[Array, "2"]
    ) -> Float[Array, "b dim"]:
        whole = list(leaves)
        for index, leaf in zip(needed, weights, strict=True):
            whole[index] = leaf
        return act(whole, observations, words)

    # A CPU rounds as it does, whatever is asked.
    with matmul_precision(precision, "cuda"), _without_source_paths():
        exported = export.export(jax.jit(act_with_needed), platforms=PLATFORMS)(
            [jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in needed],
            jax.ShapeDtypeStruct((*export.symbolic_shape("b"), observation_size), jnp.float32),
            words,
        )
    return Sampler(
        exported.mlir_module_serialized,
        exported.calling_convention_version,
        [np.asarray(leaves[i]) for i in needed],
    )


def _used(function: Callable[..., Any], leaves: list[Array], *rest: Any) -> list[int]:
    """The leaves that the result depends on: no critic, no target, no optimiser."""
    program = jax.make_jaxpr(function)(leaves, *rest).jaxpr
    _, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return [index for index in range(len(leaves)) if used[index]]

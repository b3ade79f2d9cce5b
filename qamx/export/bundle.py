"""The folder of an exported policy: written whole, checked against the training code."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np

from qamx._utils.files import hash_of
from qamx.deploy import metadata as files
from qamx.deploy.checking import Check, check
from qamx.deploy.metadata import Kind, Metadata
from qamx.errors import RunError, UserError
from qamx.export.onnx import export_onnx, recorded
from qamx.export.sampler import PLATFORMS, export_sampler
from qamx.export.source import Source

LATENCY_CALLS = 300
"""Chunks that are timed."""


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
        _put(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _put(partial: Path, folder: Path) -> None:
    """Gives the new folder its name; an earlier one is there until then."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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
    sampler.write(folder)
    _record(source, folder, {})
    return replace(
        _described(source, "bundle"), platforms=PLATFORMS, calling_convention=sampler.convention
    )


def _onnx_files(source: Source, folder: Path) -> Metadata:
    policy = source.policy
    size, units = source.observations.shape[1], policy.scaling.units
    exported = export_onnx(policy.agent, size, units, policy.horizon)
    (folder / files.MODEL).write_bytes(exported.model)
    seen = policy.scaling.observations(source.observations)
    _record(source, folder, recorded(policy.agent, seen, source.key, exported.draws))
    return replace(_described(source, "onnx"), platforms=("onnx",), draws=exported.draws)


_WRITERS: dict[Kind, Callable[[Source, Path], Metadata]] = {
    "bundle": _jax_files,
    "onnx": _onnx_files,
}


def _record(source: Source, folder: Path, draws: dict[str, np.ndarray]) -> None:
    """The actions of the training code, with all that decides them."""
    arrays = {
        "observations": source.observations,
        "key_data": np.asarray(jax.random.key_data(source.key)),
        "actions": source.actions,
        **draws,
    }
    np.savez(folder / files.GOLDEN, allow_pickle=False, **arrays)


def _described(source: Source, kind: Kind) -> Metadata:
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
        },
        environment=experiment.environment.model_dump(mode="json"),
        made_with={"qamx": _version("qamx"), "jax": _version("jax")},
        evaluation=source.evaluation(),
        latency={},
        files={},
    )


def _finish(metadata: Metadata, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != files.FILE_NAME)
    replace(metadata, files={name: hash_of(folder / name) for name in names}).write(folder)


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

"""Checkpoints: arrays, manifests, and the thread that saves."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from qamx._utils.files import describe_write_error, fsync, sha256
from qamx.errors import RunError, UserError

_LOG = logging.getLogger("qamx")

Schema: TypeAlias = dict[str, list[Any]]
"""Shape (a list too) and dtype of every array, by name."""

NAME = "manifest.json"


class DamagedCheckpoint(Exception):
    """A file that is not what was saved; the message names it and its difference."""


def schema_of(arrays: dict[str, np.ndarray]) -> Schema:
    """The form of named arrays."""
    return {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}


def write_manifest(directory: Path, schema: Schema) -> None:
    """Hashes every file in `directory` and writes its manifest, all of it durably."""
    for path in directory.rglob("*"):
        fsync(path)
    content = {"files": {}, "schema": schema}
    for path in _files(directory):
        content["files"][str(path.relative_to(directory))] = [path.stat().st_size, sha256(path)]
    path = directory / NAME
    # The manifest's own hash: a flipped bit in it must not pass for damage of another file.
    path.write_text(json.dumps({"sha256": _digest(content), **content}), encoding="utf-8")
    fsync(path)
    fsync(directory)


def verify(directory: Path) -> Schema:
    """Checks every file in `directory` against its manifest; returns the schema.

    **Raises:** `DamagedCheckpoint` at the first missing, added or changed file.
    """
    content = _read(directory / NAME)
    for name, (size, digest) in content["files"].items():
        verify_file(directory / name, size, digest)
    known = {*content["files"], NAME}
    for path in _files(directory):
        if str(path.relative_to(directory)) not in known:
            raise DamagedCheckpoint(f"{path}: not a file of this checkpoint")
    return content["schema"]


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def verify_file(path: Path, size: int, digest: str) -> None:
    """Checks one file.

    **Raises:** `DamagedCheckpoint` if it is missing, or has another size or hash.
    """
    try:
        present = path.stat().st_size
        if present != size:
            raise DamagedCheckpoint(f"{path}: {present:,} bytes, {size:,} were saved")
        actual = sha256(path)
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {_reason(error)}") from error
    if actual != digest:
        raise DamagedCheckpoint(f"{path}: SHA-256 {actual[:12]}..., {digest[:12]}... was saved")


def verify_schema(schema: Schema, arrays: dict[str, np.ndarray]) -> None:
    """Checks the shapes and dtypes that were read.

    **Raises:** `DamagedCheckpoint` at the first missing, added or changed array.
    """
    present = schema_of(arrays)
    for name in sorted(schema.keys() | present.keys()):
        saved, read = schema.get(name), present.get(name)
        if saved != read:
            found, expected = (f"{e[1]}{e[0]}" if e else "nothing" for e in (read, saved))
            raise DamagedCheckpoint(f"array {name}: {found}, {expected} was saved")


def _read(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_bytes())
        digest, content = saved["sha256"], {name: saved[name] for name in ("files", "schema")}
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {_reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{path}: not a manifest ({error})") from error
    if _digest(content) != digest:
        raise DamagedCheckpoint(f"{path}: its own SHA-256 does not match its content")
    return content


def _reason(error: OSError) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def to_host(tree: PyTree, prefix: str = "") -> dict[str, np.ndarray]:
    """A copy of every leaf by its path behind `prefix`, random keys as their data."""
    # A copy: the device's buffer is donated to the next update during the save.
    return {
        prefix + jax.tree_util.keystr(path): np.array(
            jax.random.key_data(leaf) if _is_key(leaf) else leaf
        )
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _fit(name: str, arrays: dict[str, np.ndarray], leaf: Any) -> Any:
    """A saved array in the place of `leaf`."""
    expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    value = arrays.get(name)
    if value is None or (value.shape, value.dtype) != (expected.shape, expected.dtype):
        found = "nothing" if value is None else f"{value.dtype}{value.shape}"
        raise UserError(
            f"checkpoint array {name}: found {found}, "
            f"expected {expected.dtype}{expected.shape}; it belongs to another experiment, or to "
            "other switches of JAX (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL)"
        )
    array = jnp.asarray(value)
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array


logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each save at length.

QUARANTINE = "quarantine"
"""The folder of damaged checkpoints."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: `arrays` by name, and the loop's `position`."""

    step: int
    arrays: dict[str, np.ndarray]
    position: dict[str, Any]

    def fit(self, template: PyTree, prefix: str = "") -> PyTree:
        """The template with the arrays as its leaves; its path in what was saved is `prefix`.

        **Raises:** `UserError` if an array is missing or has another shape or type.
        """
        return jax.tree.map_with_path(
            lambda path, leaf: _fit(prefix + jax.tree_util.keystr(path), self.arrays, leaf),
            template,
        )


Prepare = Callable[[], dict[str, Any]]
"""The first part of a save, on its thread; the result is added to the position."""


class Checkpoints:
    """Checkpoints in a folder a step: Orbax's arrays, `position.json`, and the manifest.

    A checkpoint is written under a temporary name, and renamed when its manifest is on the disk.
    So a folder with the name of a step is whole, or was damaged later. Saves run in a thread; the
    exception of a failed one is raised by the next call.

    **Arguments:** `directory` holds the latest `keep` checkpoints (or all).
    """

    def __init__(self, directory: Path, keep: int | None = None):
        self._directory, self.keep = directory.resolve(), keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._save: Future[None] | None = None
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, newest first."""
        names = (path.name for path in self._directory.glob("*") if path.name.isdecimal())
        return sorted(map(int, names), reverse=True)

    def save(
        self,
        step: int,
        tree: PyTree,
        position: dict[str, Any],
        prepare: Prepare = dict,
        extra: Mapping[str, PyTree] = MappingProxyType({}),
    ) -> None:
        """Copies the tree and saves it in the background, after the previous save.

        **Arguments:** `extra` are further trees, by the prefix of their arrays' names.

        **Raises:** `RunError` if the previous save failed.
        """
        self.wait()
        arrays = to_host(tree)
        for prefix, part in extra.items():
            arrays |= to_host(part, prefix)
        copy = json.loads(json.dumps(position))
        self._save = self._thread.submit(self._write, step, arrays, copy, prepare)

    def read(self, step: int) -> Saved:
        """The checkpoint of `step`, every hash and every array's form checked.

        **Raises:** `DamagedCheckpoint` if it is not what was saved.
        """
        directory = self._directory / str(step)
        schema = verify(directory)
        try:
            arrays = self._orbax.restore(directory / "arrays")
            position = json.loads((directory / "position.json").read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise DamagedCheckpoint(f"{directory}: cannot be read ({error})") from error
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        verify_schema(schema, arrays)
        return Saved(step, arrays, position)

    def newest(
        self, check: Callable[[Saved], None] = lambda saved: None, limit: int | None = None
    ) -> Saved | None:
        """The newest intact checkpoint; damaged ones move to `quarantine`.

        **Arguments:** `check` may raise `DamagedCheckpoint` too; steps after `limit` do not count.

        **Raises:** `RunError` if there are, or were, checkpoints and all are damaged.
        """
        for partial in self._directory.glob("*.partial"):
            shutil.rmtree(partial)
        for step in self.steps():
            if limit is not None and step > limit:
                continue
            try:
                saved = self.read(step)
                check(saved)
                return saved
            except DamagedCheckpoint as damage:
                self._quarantine(step, damage)
        if (self._directory / QUARANTINE).is_dir():
            raise RunError(
                f"{self._directory}: no checkpoint is what was saved; the damaged ones are in "
                f"{QUARANTINE}. Restore one from a copy, or name another directory with --out to "
                "start over"
            )
        return None

    def latest_readonly(self) -> Saved | None:
        """The newest intact checkpoint, without moving damaged ones: the run may be in progress."""
        for step in self.steps():
            try:
                return self.read(step)
            except DamagedCheckpoint as damage:
                _LOG.warning(f"warning: {damage}; the checkpoint before step {step:,} is used")
        return None

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, which the resumed run repeats."""
        for later in self.steps():
            if later > step:
                self._remove(self._directory / str(later))

    def check(self) -> None:
        """Raises `RunError` if a save in the background has failed; costs next to nothing."""
        if self._save is not None and self._save.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the save is on disk; raises `RunError` if it failed."""
        save, self._save = self._save, None
        if save is not None:
            save.result()

    def close(self) -> None:
        """Ends the thread, after its save."""
        self._thread.shutdown()
        self._orbax.close()

    def _write(
        self, step: int, arrays: dict[str, np.ndarray], position: dict[str, Any], prepare: Prepare
    ) -> None:
        partial = self._directory / f"{step}.partial"
        try:
            position = {**position, **prepare()}
            partial.mkdir(parents=True)
            self._orbax.save(partial / "arrays", args=ocp.args.StandardSave(arrays))
            (partial / "position.json").write_text(json.dumps(position), encoding="utf-8")
            write_manifest(partial, schema_of(arrays))
            partial.rename(self._directory / str(step))
            fsync(self._directory)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the space
            last = next(iter(self.steps()), 0)
            reason = describe_write_error(error, self._directory.parent)
            raise RunError(
                f"step {step:,} was not saved. {reason}; the last good checkpoint is of step "
                f"{last:,}"
            ) from error
        for old in self.steps()[self.keep :] if self.keep else ():
            self._remove(self._directory / str(old))

    def _remove(self, directory: Path) -> None:
        # Under another name first: a removal that is cut short must not look like damage.
        partial = directory.with_suffix(".partial")
        directory.rename(partial)
        shutil.rmtree(partial)

    def _quarantine(self, step: int, damage: DamagedCheckpoint) -> None:
        quarantine = self._directory / QUARANTINE
        quarantine.mkdir(exist_ok=True)
        target, count = quarantine / str(step), 1
        while target.exists():
            count += 1
            target = quarantine / f"{step}-{count}"
        (self._directory / str(step)).rename(target)
        _LOG.warning(f"warning: {damage}; the checkpoint of step {step:,} is now {target}")

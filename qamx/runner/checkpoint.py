"""Saving and restoring the whole state of a run with Orbax."""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from qamx.data.sequences import Transitions
from qamx.errors import UserError

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each save at length.


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
    # A copy: the device's buffer is donated to the next update while the save goes on.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _fitted(name: str, arrays: dict[str, Any], leaf: Any) -> Any:
    """A saved array in the place of `leaf`."""
    expected = _to_host(leaf)
    value = np.asarray(arrays.get(name))
    if (value.shape, value.dtype) != (expected.shape, expected.dtype):
        raise UserError(
            f"checkpoint array {name}: found {value.dtype}{value.shape}, "
            f"expected {expected.dtype}{expected.shape}; it belongs to another experiment"
        )
    array = jnp.asarray(value)
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array


class Checkpoints:
    """The checkpoints of a run: arrays by name, and the loop's position as JSON.

    **Arguments:** `directory` holds a folder a step, the latest `keep` of them (or all).
    """

    def __init__(self, directory: Path, keep: int | None = None):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._directory = directory
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree, position: dict[str, Any]) -> None:
        """Saves in the background; the one before is waited for."""
        leaves = jax.tree.leaves_with_path(tree)
        arrays = {jax.tree_util.keystr(path): _to_host(leaf) for path, leaf in leaves}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays), position=ocp.args.JsonSave(position)
            ),
        )

    def restore(
        self, step: int, template: PyTree, prefix: str = ""
    ) -> tuple[PyTree, dict[str, Any]]:
        """The tree that was saved, in the form of `template`, and the position.

        **Arguments:** `prefix` is the path of `template` inside the tree that was saved.

        **Raises:** `UserError` if an array is missing or has another shape or type.
        """
        form = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(), position=ocp.args.JsonRestore()
        )
        try:
            saved = self._manager.restore(step, args=form)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self._directory / str(step)}: the checkpoint cannot be read ({error}); remove "
                "that folder to go on from the one before"
            ) from error
        leaves, structure = jax.tree.flatten_with_path(template)
        found = [
            _fitted(prefix + jax.tree_util.keystr(path), saved["arrays"], leaf)
            for path, leaf in leaves
        ]
        return jax.tree.unflatten(structure, found), saved["position"]

    def wait(self) -> None:
        """Returns when every save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the manager."""
        self._manager.close()


class OnlineRows:
    """The online part of the replay on disk: files that are only ever added.

    A save costs what is new; each file is named by the rows that it holds.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def save(self, first: int, rows: Transitions) -> None:
        """Writes the rows from `first` on, atomically."""
        if len(rows) == 0:
            return
        self._directory.mkdir(exist_ok=True)
        name = f"{first:09d}-{first + len(rows):09d}.npz"
        partial = self._directory / f"{name}.partial"
        with partial.open("wb") as file:
            np.savez(file, **vars(rows))
        partial.replace(self._directory / name)

    def load(self, count: int) -> Transitions | None:
        """The first `count` rows.

        **Raises:** `UserError` if a file that holds some of them is missing.
        """
        parts, reached = [], 0
        while reached < count:
            path = self._next(reached, count)
            with np.load(path, allow_pickle=False) as file:
                parts.append({name: file[name] for name in file.files})
            reached += len(parts[-1]["rewards"])
        if not parts:
            return None
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Transitions(**joined)

    def discard_after(self, count: int) -> None:
        """Removes files that reach beyond `count` rows: a checkpoint that goes back wants none."""
        for path in self._directory.glob("*.npz"):
            if int(path.stem.split("-")[1]) > count:
                path.unlink()

    def _next(self, reached: int, count: int) -> Path:
        for path in self._directory.glob(f"{reached:09d}-*.npz"):
            return path
        raise UserError(
            f"{self._directory}: no file holds the online transitions from {reached:,} on, and "
            f"the checkpoint needs {count:,}; restore the folder or start a run in a new directory"
        )

"""The checkpoints of a run: saved beside training, verified when they are read."""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from qamx._utils.files import explain
from qamx.errors import RunError
from qamx.runner.arrays import fitted, to_host
from qamx.runner.background import Background
from qamx.runner.manifest import Damaged, persist, schema_of, verify, verify_schema, write_manifest

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each save at length.

QUARANTINE = "quarantine"
"""The folder, beside the steps, of checkpoints that are not what was saved."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: `arrays` by name, and the loop's `position`."""

    step: int
    arrays: dict[str, np.ndarray]
    position: dict[str, Any]

    def fit(self, template: PyTree, prefix: str = "") -> PyTree:
        """The arrays in the form of `template`, whose path inside what was saved is `prefix`.

        **Raises:** `UserError` if an array is missing or has another shape or type.
        """
        return fitted(self.arrays, template, prefix)


Prepare = Callable[[], dict[str, Any]]
"""What a save does first, on its thread; the result is added to the position."""


class Checkpoints:
    """Checkpoints in a folder a step: Orbax's arrays, `position.json`, and the manifest.

    A checkpoint is written under another name, and gets its own when its manifest is on the
    disk. So a folder with the name of a step is whole, or was damaged later.

    **Arguments:** `directory` holds the latest `keep` checkpoints (or all).
    """

    def __init__(self, directory: Path, keep: int | None = None):
        self._directory, self.keep = directory.resolve(), keep
        self._background = Background()
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
        beside: Mapping[str, PyTree] = MappingProxyType({}),
    ) -> None:
        """Copies the tree and saves it in the background; the save before is waited for.

        **Arguments:** `beside` are further trees, by the prefix of their arrays' names.

        **Raises:** `RunError` if the save before failed.
        """
        self._background.wait()
        arrays = to_host(tree)
        for prefix, other in beside.items():
            arrays |= to_host(other, prefix)
        self._background.start(
            lambda: self._write(step, arrays, json.loads(json.dumps(position)), prepare)
        )

    def read(self, step: int) -> Saved:
        """The checkpoint of `step`, every hash and every array's form checked.

        **Raises:** `Damaged` if it is not what was saved.
        """
        directory = self._directory / str(step)
        schema = verify(directory)
        try:
            arrays = self._orbax.restore(directory / "arrays")
            position = json.loads((directory / "position.json").read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise Damaged(f"{directory}: cannot be read ({error})") from error
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        verify_schema(schema, arrays)
        return Saved(step, arrays, position)

    def newest(
        self, check: Callable[[Saved], None] = lambda saved: None, limit: int | None = None
    ) -> Saved | None:
        """The newest checkpoint that is what was saved; damaged ones move to `quarantine`.

        **Arguments:** `check` may find more that is `Damaged`; steps after `limit` do not count.

        **Raises:** `RunError` if there are, or were, checkpoints and all are damaged.
        """
        self._remove_partial()
        for step in self.steps():
            if limit is not None and step > limit:
                continue
            try:
                saved = self.read(step)
                check(saved)
            except Damaged as damage:
                self._put_aside(step, damage)
            else:
                return saved
        if (self._directory / QUARANTINE).is_dir():
            raise RunError(
                f"{self._directory}: no checkpoint is what was saved; the damaged ones are in "
                f"{QUARANTINE}. Restore one from a copy, or name another directory with --out to "
                "start over"
            )
        return None

    def newest_unmoved(self) -> Saved | None:
        """The same for a reader beside the run, which moves nothing: warns and goes on."""
        for step in self.steps():
            try:
                return self.read(step)
            except Damaged as damage:
                _warn(f"{damage}; the checkpoint before step {step:,} is used")
        return None

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps: the run goes there again."""
        for later in self.steps():
            if later > step:
                self._remove(self._directory / str(later))

    def check(self) -> None:
        """Raises `RunError` if a save in the background has failed."""
        self._background.check()

    def wait(self) -> None:
        """Returns when every save is on disk; raises `RunError` if one failed."""
        self._background.wait()

    def close(self) -> None:
        """Ends the thread, after its save."""
        self._background.close()
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
            persist(self._directory)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the room
            last = next(iter(self.steps()), 0)
            raise RunError(
                f"step {step:,} was not saved. {explain(error, self._directory.parent)}; the last "
                f"good checkpoint is of step {last:,}"
            ) from error
        for old in self.steps()[self.keep :] if self.keep else ():
            self._remove(self._directory / str(old))

    def _remove(self, directory: Path) -> None:
        # Under another name first: a removal that is cut short must not look like damage.
        partial = directory.with_suffix(".partial")
        directory.rename(partial)
        shutil.rmtree(partial)

    def _remove_partial(self) -> None:
        for path in self._directory.glob("*.partial"):
            shutil.rmtree(path)

    def _put_aside(self, step: int, damage: Damaged) -> None:
        quarantine = self._directory / QUARANTINE
        quarantine.mkdir(exist_ok=True)
        place, count = quarantine / str(step), 1
        while place.exists():
            count += 1
            place = quarantine / f"{step}-{count}"
        (self._directory / str(step)).rename(place)
        _warn(f"{damage}; the checkpoint of step {step:,} is now {place}")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)

"""Data sources: the interface, normalised and validated data, locomotion rewards."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from qamx.errors import UserError

if TYPE_CHECKING:
    from qamx._utils.finding import Finding
    from qamx.data.transitions import Transitions
import dataclasses
import sys
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from qamx._utils.finding import Finding
from qamx.data.inspection.episode_checks import Shards
from qamx.data.inspection.report import examine
from qamx.data.inspection.value_checks import nearly_constant_actions, nearly_constant_observations
from qamx.data.transitions import Transitions
from qamx.data.validation import SMALLEST_DEVIATION, nearly_constant, not_finite
from qamx.envs.locomotion import WalkEnvironment, Walker
from qamx.normalisation import Scaling, Vector


class DataSource(Protocol):
    """A data set in one or more shards, of which one is in memory at a time.

    A source that reads files may list them in an attribute `files`: they are then hashed for the
    run's passport, and a continued run refuses others. Where states jump in the environment
    itself, an attribute `jumps` says so. `qamx data inspect` also asks for two methods:
    `load_validation() -> Transitions | None`, and `tasks(shard)`, which gives the number, rewards
    and masks of every task that the shard's rows may be labelled for.
    """

    @property
    def shards(self) -> int:
        """How many shards there are."""
        ...

    @property
    def updates_per_shard(self) -> int | None:
        """Updates after which the next shard takes the place of the present one."""
        ...

    def load(self, shard: int) -> "Transitions":
        """The transitions of a shard, as host arrays (float32), actions inside (-1, 1)."""
        ...


class AbstractDataAround:
    """Another source's shards, changed or looked at as they are loaded."""

    def __init__(self, source: DataSource):
        self._source = source

    @property
    def shards(self) -> int:
        return self._source.shards

    @property
    def updates_per_shard(self) -> int | None:
        return self._source.updates_per_shard

    @property
    def files(self) -> tuple[Path, ...]:
        return files_of(self._source)


def files_of(source: DataSource) -> tuple[Path, ...]:
    """The data files that a source reads: its attribute `files`, if it has one."""
    return tuple(Path(file) for file in getattr(source, "files", ()))


def require_equal_lengths(names: Sequence[str], lengths: Sequence[int]) -> None:
    """Shards take each other's place in the buffer: they must be equally long.

    **Raises:** `UserError` naming the first that is not.
    """
    for name, length in zip(names, lengths, strict=True):
        if length != lengths[0]:
            raise UserError(
                f"{name}: {length:,} transitions, and {Path(names[0]).name} has {lengths[0]:,}; "
                "shards of one data set must be equally long"
            )


def jumps_of(source: DataSource) -> bool:
    """Whether states jump in mid-episode, as through a portal."""
    return bool(getattr(source, "jumps", False))


def findings_of(source: DataSource) -> "tuple[Finding, ...]":
    """Findings about the first shard that it no longer shows, since its units were changed."""
    return getattr(source, "findings", ())


def validation_of(source: DataSource) -> "Transitions | None":
    """The validation data that belong to a source, if it has any."""
    load = getattr(source, "load_validation", None)
    return None if load is None else load()


Found: TypeAlias = tuple[Finding, ...]


class ScaledData(AbstractDataAround):
    """A data source in a policy's units.

    **Arguments:** `first` is the source's first shard, where it has been loaded already, and
    `findings` came up when the units were found out.
    """

    def __init__(
        self,
        source: DataSource,
        scaling: Scaling,
        first: Transitions | None = None,
        findings: Found = (),
    ):
        super().__init__(source)
        self._scaling, self._first, self.findings = scaling, first, findings

    @property
    def jumps(self) -> bool:
        return jumps_of(self._source)

    def load_validation(self) -> Transitions | None:
        raw = validation_of(self._source)
        return None if raw is None else scaled(self._scaling, raw)

    def load(self, shard: int) -> Transitions:
        raw, self._first = self._first if shard == 0 else None, None
        return scaled(self._scaling, self._source.load(shard) if raw is None else raw)


def scaled(scaling: Scaling, raw: Transitions) -> Transitions:
    """Transitions in a policy's units."""
    return dataclasses.replace(
        raw,
        observations=scaling.observations(np.asarray(raw.observations)),
        actions=scaling.actions(np.asarray(raw.actions)),
        rewards=scaling.rewards(np.asarray(raw.rewards)),
        next_observations=scaling.observations(np.asarray(raw.next_observations)),
    )


def moments(
    where: str, observations: Float[np.ndarray, "size obs"]
) -> tuple[Vector, Vector, Found]:
    """Mean and standard deviation of each entry; a deviation of at least 1 for one that hardly
    varies, which its own would enlarge until any other value is a huge one.

    **Arguments:** `where` is what messages call the data.

    **Returns:** with them, the finding about entries that vary, but hardly.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "observations", observations)
    mean = observations.mean(axis=0, dtype=np.float64)
    deviation = observations.std(axis=0, dtype=np.float64)
    hardly = nearly_constant(mean, deviation)
    # What varies by rounding alone is constant in a policy's units too, and found there.
    varied = observations.max(axis=0) - observations.min(axis=0) > SMALLEST_DEVIATION
    findings = tuple(nearly_constant_observations(hardly & varied, mean, deviation))
    deviation = np.where(hardly, np.maximum(deviation, 1.0), deviation)
    return mean.astype(np.float32), deviation.astype(np.float32), findings


def extremes(where: str, actions: Float[np.ndarray, "size act"]) -> tuple[Vector, Vector, Found]:
    """The smallest and the largest value of each entry; `where` and findings as above.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "actions", actions)
    low, high = actions.min(axis=0), actions.max(axis=0)
    found = nearly_constant((low + high) / 2, (high - low) / 2) & (low < high)
    effect = (
        "scaled by their range, they are noise to be learned, and the policy can do nothing else "
        "with them in the environment"
    )
    remedy = 'leave them out of the action, or write data.scale_actions = "space"'
    return low, high, tuple(nearly_constant_actions(found, low, high, effect, remedy))


def _require_finite(where: str, name: str, array: np.ndarray) -> None:
    row = not_finite(array)
    if row is not None:
        raise UserError(f"{where}: {name}: not finite in row {row:,}; mend or drop the episode")


ACTION_LIMIT = 1.0 - 1e-5
"""Data actions are clipped to this, so that a tanh policy can reach them."""


class CheckedData(AbstractDataAround):
    """A data source whose shards are inspected when they are first loaded.

    Warnings go to the standard error stream, one line each, one of each kind.

    **Arguments:** `name` is what messages call the source, `horizon` the length of the windows
    that will be drawn.

    **Raises:** on `load`, `UserError` with everything that a run refuses.
    """

    def __init__(self, source: DataSource, name: str, horizon: int):
        super().__init__(source)
        self._name, self._horizon = name, horizon
        self._inspected: set[int] = set()
        self._warned: set[str] = set()
        self._seen = Shards()

    def load(self, shard: int) -> Transitions:
        transitions = self._source.load(shard)
        if shard not in self._inspected:
            self._inspect(shard, transitions)
        actions = np.clip(np.asarray(transitions.actions), -ACTION_LIMIT, ACTION_LIMIT)
        return dataclasses.replace(transitions, actions=actions)

    def _inspect(self, shard: int, transitions: Transitions) -> None:
        examination = examine(transitions, self._horizon, jumps_of(self._source))
        findings = [*(findings_of(self._source) if shard == 0 else ()), *examination.findings]
        if examination.facts is not None:
            findings += self._seen.compare(shard, examination.facts)
        where = self._name if self.shards == 1 else f"{self._name}, shard {shard}"
        refused = [finding.line(where) for finding in findings if finding.level == "refuse"]
        if refused:
            raise UserError("\n".join(refused))
        self._inspected.add(shard)
        self._warn(where, [finding for finding in findings if finding.level == "warn"])

    def _warn(self, where: str, findings: list[Finding]) -> None:
        for finding in findings:
            if finding.id not in self._warned:
                self._warned.add(finding.id)
                print(f"warning: {finding.line(where)}", file=sys.stderr, flush=True)


SEED = 0


class RandomSteps:
    """The first steps that OGBench's experts learn from: uniform random actions.

    They are played when they are loaded, the same ones each time: a continued run needs no file.

    **Arguments:** `steps` is their number; the last episode is cut there.
    """

    shards = 1
    updates_per_shard = None

    def __init__(self, walker: Walker, steps: int):
        self._walker: Walker = walker
        self._steps = steps

    def load(self, shard: int) -> Transitions:
        environment = WalkEnvironment(self._walker)
        try:
            return _played(environment, self._steps)
        finally:
            environment.close()


def _played(environment: WalkEnvironment, steps: int) -> Transitions:
    generator = np.random.default_rng(SEED)
    observation, episode, rows = environment.reset(0), 0, []
    for index in range(steps):
        action = generator.uniform(-1.0, 1.0, environment.action_size).astype(np.float32)
        step = environment.step(action)
        mask = 0.0 if step.terminated else 1.0
        end = 1.0 if step.done or index + 1 == steps else 0.0
        rows.append((observation, action, step.reward, mask, end, step.observation))
        observation = step.observation
        if step.done:
            episode += 1
            observation = environment.reset(episode)
    return Transitions(*(np.asarray(column, np.float32) for column in zip(*rows, strict=True)))

"""Data sources: the protocol, normalised and validated sources, random steps of a walker."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Float

from qamx._utils.finding import Finding
from qamx.data.inspection.episode_checks import ShardHistory
from qamx.data.inspection.summary import run_checks
from qamx.data.inspection.value_checks import find_nearly_constant
from qamx.data.transitions import Transitions
from qamx.data.validation import SMALLEST_DEVIATION, find_nonfinite, nearly_constant, refuse
from qamx.envs.ogbench import WalkEnvironment, Walker
from qamx.errors import UserError
from qamx.normalisation import Normalisation, Vector

_LOG = logging.getLogger("qamx")

Findings: TypeAlias = tuple[Finding, ...]

ACTION_LIMIT = 1.0 - 1e-5
"""Data actions are clipped to this, so that a tanh policy can reach them."""


class DataSource(Protocol):
    """A data set in one or more shards, of which one is in memory at a time.

    Optional members: `files`, the data files, which are hashed for the run's passport, so that a
    resumed run refuses others; `has_teleports`, true where states jump in the environment itself;
    `load_validation() -> Transitions | None`, and `tasks(shard)`, which yields the number, rewards
    and masks of every task that the shard can be labelled for; `qamx data inspect` uses the last
    two.
    """

    @property
    def shards(self) -> int:
        """Number of shards."""
        ...

    @property
    def updates_per_shard(self) -> int | None:
        """Updates after which the next shard replaces the current one."""
        ...

    def load(self, shard: int) -> Transitions:
        """The transitions of a shard, as host arrays (float32), actions inside (-1, 1)."""
        ...


def files_of(source: DataSource) -> tuple[Path, ...]:
    """The data files of a source, if it lists any."""
    return tuple(Path(file) for file in getattr(source, "files", ()))


def has_teleports(source: DataSource) -> bool:
    """True where states jump inside an episode, as through a portal."""
    return bool(getattr(source, "has_teleports", False))


def findings_of(source: DataSource) -> Findings:
    """Findings about the first shard that its normalisation hides."""
    return getattr(source, "findings", ())


def validation_of(source: DataSource) -> Transitions | None:
    """The validation data of a source, if it has any."""
    return getattr(source, "load_validation", lambda: None)()


@dataclass(eq=False)
class AbstractWrappedData:
    """Another source's shards, changed or validated as they are loaded."""

    source: DataSource

    @property
    def shards(self) -> int:
        return self.source.shards

    @property
    def updates_per_shard(self) -> int | None:
        return self.source.updates_per_shard

    @property
    def files(self) -> tuple[Path, ...]:
        return files_of(self.source)


@dataclass(eq=False)
class NormalisedData(AbstractWrappedData):
    """A data source in a policy's units.

    **Arguments:** `first` is the source's first shard, if it is loaded already; `findings` were
    made while the normalisation was computed.
    """

    scaling: Normalisation
    first: Transitions | None = None
    findings: Findings = ()

    @property
    def has_teleports(self) -> bool:
        return has_teleports(self.source)

    def load_validation(self) -> Transitions | None:
        raw = validation_of(self.source)
        return None if raw is None else normalise(raw, self.scaling)

    def load(self, shard: int) -> Transitions:
        raw, self.first = self.first if shard == 0 else None, None
        return normalise(self.source.load(shard) if raw is None else raw, self.scaling)


def normalise(raw: Transitions, scaling: Normalisation) -> Transitions:
    """Transitions in a policy's units."""
    return replace(
        raw,
        observations=scaling.observations(np.asarray(raw.observations)),
        actions=scaling.actions(np.asarray(raw.actions)),
        rewards=scaling.rewards(np.asarray(raw.rewards)),
        next_observations=scaling.observations(np.asarray(raw.next_observations)),
    )


def mean_std(
    where: str, observations: Float[np.ndarray, "size obs"]
) -> tuple[Vector, Vector, Findings]:
    """Mean and standard deviation of each entry; the deviation of a nearly constant entry is at
    least 1, since dividing by its own would enlarge any other value.

    **Arguments:** `where` names the data in messages.

    **Returns:** also a finding if entries vary, but hardly.

    **Raises:** `UserError` for a value that is not finite.
    """
    refuse(where, find_nonfinite("observations", observations))
    mean = observations.mean(axis=0, dtype=np.float64)
    deviation = observations.std(axis=0, dtype=np.float64)
    hardly = nearly_constant(mean, deviation)
    # Entries that vary by rounding alone stay constant when normalised, and are found there.
    varied = observations.max(axis=0) - observations.min(axis=0) > SMALLEST_DEVIATION
    findings = tuple(find_nearly_constant("observations", hardly & varied, mean, deviation))
    deviation = np.where(hardly, np.maximum(deviation, 1.0), deviation)
    return mean.astype(np.float32), deviation.astype(np.float32), findings


def min_max(where: str, actions: Float[np.ndarray, "size act"]) -> tuple[Vector, Vector, Findings]:
    """Smallest and largest value of each entry; arguments and findings as for `mean_std`.

    **Raises:** `UserError` for a value that is not finite.
    """
    refuse(where, find_nonfinite("actions", actions))
    low, high = actions.min(axis=0), actions.max(axis=0)
    middle, reach = (low + high) / 2, (high - low) / 2
    hardly = nearly_constant(middle, reach) & (low < high)
    findings = find_nearly_constant("actions", hardly, middle, reach)
    effect = (
        "scaled by their range, they are noise to be learned, and the policy can do nothing else "
        "with them in the environment"
    )
    remedy = 'leave them out of the action, or write data.scale_actions = "space"'
    told = (replace(finding, effect=effect, remedy=remedy) for finding in findings)
    return low, high, tuple(told)


@dataclass(eq=False)
class ValidatedData(AbstractWrappedData):
    """A data source whose shards are inspected when they are first loaded.

    Each kind of warning is issued once.

    **Arguments:** `name` names the source in messages, `horizon` is the length of the windows that
    will be drawn.

    **Raises:** on `load`, `UserError` with everything that a run refuses.
    """

    name: str
    horizon: int

    def __post_init__(self) -> None:
        self._inspected: set[int] = set()
        self._warned: set[str] = set()
        self._history = ShardHistory()

    def load(self, shard: int) -> Transitions:
        transitions = self.source.load(shard)
        if shard not in self._inspected:
            self._inspect(shard, transitions)
        actions = np.clip(np.asarray(transitions.actions), -ACTION_LIMIT, ACTION_LIMIT)
        return replace(transitions, actions=actions)

    def _inspect(self, shard: int, transitions: Transitions) -> None:
        found, statistics = run_checks(transitions, self.horizon, has_teleports(self.source))
        findings = [*(findings_of(self.source) if shard == 0 else ()), *found]
        if statistics is not None:
            findings += self._history.compare(shard, statistics)
        where = self.name if self.shards == 1 else f"{self.name}, shard {shard}"
        refused = [finding.line(where) for finding in findings if finding.level == "refuse"]
        if refused:
            raise UserError("\n".join(refused))
        self._inspected.add(shard)
        for finding in findings:
            if finding.level == "warn" and finding.id not in self._warned:
                self._warned.add(finding.id)
                _LOG.warning(f"warning: {finding.line(where)}")


RANDOM_STEPS_SEED = 0


@dataclass(frozen=True)
class RandomSteps:
    """The first steps that OGBench's experts learn from: uniform random actions.

    They are played when they are loaded, always the same: a resumed run needs no file.

    **Arguments:** `steps` is their number; the last episode is cut there.
    """

    walker: Walker
    steps: int

    shards = 1
    updates_per_shard = None

    def load(self, shard: int) -> Transitions:
        generator, rows = np.random.default_rng(RANDOM_STEPS_SEED), []
        environment = WalkEnvironment(self.walker)
        try:
            observation, episode = environment.reset(0), 0
            for index in range(self.steps):
                action = generator.uniform(-1.0, 1.0, environment.action_size).astype(np.float32)
                step = environment.step(action)
                mask = 0.0 if step.terminated else 1.0
                end = 1.0 if step.done or index + 1 == self.steps else 0.0
                rows.append((observation, action, step.reward, mask, end, step.observation))
                observation = step.observation
                if step.done:
                    episode += 1
                    observation = environment.reset(episode)
        finally:
            environment.close()
        return Transitions(*(np.asarray(column, np.float32) for column in zip(*rows, strict=True)))

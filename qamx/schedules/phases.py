"""Training phases, and the steps of their events."""

import math
from dataclasses import dataclass
from typing import TypeAlias


def is_due(step: int, every: int, end: int) -> bool:
    """True if an event that occurs every `every` steps and at `end` is due at `step`."""
    return step % every == 0 or step == end


def next_due(step: int, intervals: tuple[int, ...], end: int) -> int:
    """The first step after `step` with an event of one of the `intervals`, or `end`."""
    return min(end, *((step // every + 1) * every for every in intervals))


@dataclass(frozen=True)
class Cloning:
    """`steps` gradient updates of behaviour cloning alone."""

    steps: int
    name = "cloning"

    def updates_after(self, steps: int) -> int:
        """Gradient updates of the first `steps` of the phase."""
        return steps


@dataclass(frozen=True)
class Offline:
    """`steps` gradient updates on the data set."""

    steps: int
    name = "offline"

    def updates_after(self, steps: int) -> int:
        """Gradient updates of the first `steps` of the phase."""
        return steps


@dataclass(frozen=True)
class Online:
    """`steps` environment steps, with updates on old and new data together.

    **Arguments:** updates start after `warmup` environment steps of the phase, and from then on
    each environment step is followed by `updates_per_step` (the UTD ratio); 0.25 is an update
    after every fourth step.
    """

    steps: int
    warmup: int
    updates_per_step: float
    name = "online"

    def updates_after(self, steps: int) -> int:
        """Gradient updates of the first `steps` of the phase."""
        return math.floor(max(steps - self.warmup, 0) * self.updates_per_step)


Phase: TypeAlias = Cloning | Offline | Online


@dataclass(frozen=True)
class Schedule:
    """A sequence of phases.

    A run's *step* counts gradient updates offline and environment steps online, through all
    phases, as in the published curves.
    """

    phases: tuple[Phase, ...]

    @property
    def steps(self) -> int:
        """The last step of the run."""
        return sum(phase.steps for phase in self.phases)

    @property
    def online_steps(self) -> int:
        """Environment steps of all online phases together."""
        return sum(phase.steps for phase in self.phases if isinstance(phase, Online))

    def start(self, index: int) -> int:
        """The step at which phase `index` begins."""
        return sum(phase.steps for phase in self.phases[:index])

    def phase_at(self, step: int) -> Phase:
        """The phase in which the run reaches `step`."""
        reached = (p for i, p in enumerate(self.phases) if step <= self.start(i) + p.steps)
        return next(reached, self.phases[-1])

    def updates_at(self, step: int) -> int:
        """Gradient updates of all phases together when the run reaches `step`."""
        spans = (
            (phase, min(max(step - self.start(index), 0), phase.steps))
            for index, phase in enumerate(self.phases)
        )
        return sum(phase.updates_after(steps) for phase, steps in spans)

    def collected_at(self, step: int) -> int:
        """Environment steps of all online phases together when the run reaches `step`."""
        return sum(
            min(max(step - self.start(index), 0), phase.steps)
            for index, phase in enumerate(self.phases)
            if isinstance(phase, Online)
        )

"""Training phases: what happens in which order, and for how long."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Offline:
    """`steps` gradient updates on the data set."""

    steps: int
    name = "offline"


@dataclass(frozen=True)
class Online:
    """`steps` environment steps, with updates on old and new data together.

    **Arguments:** updates start after `warmup` environment steps of the phase, and from then on
    each environment step is followed by `updates_per_step` (the UTD ratio).
    """

    steps: int
    warmup: int
    updates_per_step: int
    name = "online"


Phase: TypeAlias = Offline | Online


@dataclass(frozen=True)
class Schedule:
    """Phases one after the other.

    A run's *step* counts gradient updates offline and environment steps online, phases end to
    end, as the published curves do.
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

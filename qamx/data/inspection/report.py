"""All checks of a shard, and its summary statistics."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from qamx._utils.finding import Finding
from qamx.data.inspection.episode_checks import (
    check_duplicates,
    check_ends,
    check_finite,
    check_lengths,
    check_order,
    check_shapes,
    check_size,
    mended,
)
from qamx.data.inspection.statistics import Facts, sample
from qamx.data.inspection.value_checks import (
    check_agreement,
    check_causes,
    check_constant_actions,
    check_constant_observations,
    check_jumps,
    check_masks,
    check_narrow,
    check_nearly_constant_actions,
    check_nearly_constant_observations,
    check_outliers,
    check_range,
    check_rewards,
    check_saturation,
    check_scales,
    check_still,
)
from qamx.data.transitions import Transitions

Check: TypeAlias = Callable[[Facts], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_range,
    check_ends,
    check_lengths,
    check_masks,
    check_order,
    check_causes,
    check_outliers,
    check_constant_observations,
    check_nearly_constant_observations,
    check_still,
    check_rewards,
    check_agreement,
    check_scales,
    check_jumps,
    check_saturation,
    check_narrow,
    check_constant_actions,
    check_nearly_constant_actions,
    check_duplicates,
    check_size,
)
"""From what spoils a run most to what costs it least, among findings of one level."""


REWARD_CHECKS: tuple[Check, ...] = (check_masks, check_rewards, check_agreement)
"""Those that depend on the task."""


@dataclass(frozen=True)
class Examination:
    """What was found, and the facts if the form of the arrays allowed for any."""

    findings: tuple[Finding, ...]
    facts: Facts | None


def examine(
    transitions: Transitions, horizon: int, jumps: bool = False, checks: Sequence[Check] = CHECKS
) -> Examination:
    """Looks for everything that is wrong with transitions.

    **Arguments:** `horizon` is the length of the windows that will be drawn; `jumps` says that
    states do jump in this environment; `checks` are those beside form and finiteness.
    """
    findings = tuple(check_shapes(transitions))
    if findings:
        return Examination(findings, None)
    findings = tuple(check_finite(transitions))
    if findings:
        transitions = mended(transitions)
    facts = Facts(transitions, horizon, jumps)
    return Examination(
        (*findings, *(finding for check in checks for finding in check(facts))), facts
    )


Array = Float[np.ndarray, "rows entries"]


@dataclass(frozen=True)
class Rewarding:
    """What a task rewards in the data.

    **Arguments:**

    - `counts`: how often each reward is given; empty if there are more than a few values.
    - `rewards`: a sample of them.
    - `solved_rows`, `solved_episodes`: rows whose mask is 0, and episodes that have one.
    """

    rows: int
    episodes: int
    counts: dict[float, int]
    rewards: Float[np.ndarray, " rows"]
    low: float
    high: float
    solved_rows: int
    solved_episodes: int

    @classmethod
    def of(cls, facts: Facts) -> "Rewarding":
        rewards, solved = facts.array("rewards"), facts.array("masks") == 0
        return cls(
            rows=len(rewards),
            episodes=len(facts.lengths),
            counts=facts.reward_counts,
            rewards=sample(rewards),
            low=float(rewards.min()),
            high=float(rewards.max()),
            solved_rows=int(solved.sum()),
            solved_episodes=int(np.logical_or.reduceat(solved, facts.starts).sum()),
        )

    @classmethod
    def merged(cls, parts: Sequence["Rewarding"]) -> "Rewarding":
        """The rewards of several shards."""
        few = all(part.counts for part in parts)
        total = sum((Counter(part.counts) for part in parts), Counter()) if few else Counter()
        return cls(
            rows=sum(part.rows for part in parts),
            episodes=sum(part.episodes for part in parts),
            counts=dict(sorted(total.items())),
            rewards=np.concatenate([part.rewards for part in parts]),
            low=min(part.low for part in parts),
            high=max(part.high for part in parts),
            solved_rows=sum(part.solved_rows for part in parts),
            solved_episodes=sum(part.solved_episodes for part in parts),
        )

    def summary(self) -> dict[str, Any]:
        """The numbers for a script."""
        return {
            "rewards": {f"{value:g}": count for value, count in self.counts.items()},
            "lowest_reward": self.low,
            "highest_reward": self.high,
            "masks_zero": self.solved_rows,
            "masks_one": self.rows - self.solved_rows,
            "episodes_solved": self.solved_episodes,
        }


@dataclass(frozen=True)
class Portrait:
    """Sizes, ranges and samples of a data set.

    **Arguments:** `observations` and `actions` are samples of evenly spaced rows; the ranges are
    those of all rows; `windows` counts those drawn, `whole` those that lie inside an episode.
    """

    lengths: Int[np.ndarray, " episodes"]
    windows: int
    whole: int
    observations: Array
    observation_range: Float[np.ndarray, "2 obs"]
    actions: Array
    action_range: Float[np.ndarray, "2 act"]

    @property
    def rows(self) -> int:
        return int(self.lengths.sum())

    @classmethod
    def of(cls, facts: Facts, rows: int) -> "Portrait":
        """The portrait of a shard, with samples of about so many rows."""
        seen, acted = facts.observations, facts.actions
        return cls(
            facts.lengths,
            max(len(facts.transitions) - facts.horizon + 1, 0),
            facts.whole_windows,
            sample(facts.array("observations"), rows).copy(),
            np.stack([seen.low, seen.high]),
            sample(facts.array("actions"), rows).copy(),
            np.stack([acted.low, acted.high]),
        )

    @classmethod
    def merged(cls, parts: Sequence["Portrait"]) -> "Portrait":
        """The portrait of shards of one width."""
        return cls(
            np.concatenate([part.lengths for part in parts]),
            sum(part.windows for part in parts),
            sum(part.whole for part in parts),
            np.concatenate([part.observations for part in parts]),
            _outermost([part.observation_range for part in parts]),
            np.concatenate([part.actions for part in parts]),
            _outermost([part.action_range for part in parts]),
        )

    @property
    def window_share(self) -> float:
        """The share of the windows drawn that lie inside an episode."""
        return self.whole / max(self.windows, 1)

    @property
    def saturation(self) -> Float[np.ndarray, " act"]:
        """The share of rows in which each entry of the action is at ±1."""
        return np.mean(np.abs(self.actions) >= 0.999, axis=0)

    def summary(self) -> dict[str, Any]:
        """The numbers for a script."""
        return {
            "rows": self.rows,
            "episodes": len(self.lengths),
            "episode_lengths": _spread(self.lengths),
            "windows_whole": self.window_share,
            "observation_size": self.observations.shape[1],
            "observation_low": self.observation_range[0].tolist(),
            "observation_high": self.observation_range[1].tolist(),
            "action_size": self.actions.shape[1],
            "action_low": self.action_range[0].tolist(),
            "action_high": self.action_range[1].tolist(),
            "action_saturation": self.saturation.tolist(),
        }


def _outermost(ranges: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(ranges)
    return np.stack([stacked[:, 0].min(axis=0), stacked[:, 1].max(axis=0)])


def _spread(lengths: np.ndarray) -> dict[str, float]:
    return {
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
    }

"""All checks of a shard, and the summary of its data and rewards."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from qamx._utils.finding import Finding
from qamx.data.inspection import episode_checks as episodes
from qamx.data.inspection import value_checks as values
from qamx.data.inspection.statistics import DatasetStatistics, sample
from qamx.data.transitions import Transitions

Check: TypeAlias = Callable[[DatasetStatistics], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    values.check_range,
    episodes.check_ends,
    episodes.check_lengths,
    values.check_masks,
    episodes.check_order,
    values.check_causes,
    values.check_outliers,
    values.check_constant_observations,
    values.check_still,
    values.check_rewards,
    values.check_consistent_masks,
    values.check_scales,
    values.check_jumps,
    values.check_saturation,
    values.check_narrow,
    values.check_constant_actions,
    episodes.check_duplicates,
    episodes.check_size,
)
"""In the order in which findings of one level are reported, the most harmful first."""

REWARD_CHECKS = (values.check_masks, values.check_rewards, values.check_consistent_masks)
"""The checks that depend on the task."""


def run_checks(
    transitions: Transitions,
    horizon: int,
    has_teleports: bool = False,
    checks: Sequence[Check] = CHECKS,
) -> tuple[tuple[Finding, ...], DatasetStatistics | None]:
    """The findings about transitions, and their statistics unless the shapes of the arrays are
    wrong.

    **Arguments:** `horizon` is the length of the windows that will be drawn; `has_teleports` is
    true where states jump in the environment itself; `checks` follow those of shapes and of finite
    values.
    """
    findings = tuple(episodes.check_shapes(transitions))
    if findings:
        return findings, None
    findings = tuple(episodes.check_finite(transitions))
    if findings:
        transitions = episodes.fill_nonfinite(transitions)
    statistics = DatasetStatistics(transitions, horizon, has_teleports)
    more = (finding for check in checks for finding in check(statistics))
    return (*findings, *more), statistics


@dataclass(frozen=True)
class RewardSummary:
    """Rewards of a task in the data.

    **Arguments:**

    - `counts`: rows of each reward; empty if there are more than a few values.
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
    def of(cls, data: DatasetStatistics) -> "RewardSummary":
        rewards, solved = data.array("rewards"), data.array("masks") == 0
        return cls(
            rows=len(rewards),
            episodes=len(data.lengths),
            counts=data.reward_counts,
            rewards=sample(rewards),
            low=float(rewards.min()),
            high=float(rewards.max()),
            solved_rows=int(solved.sum()),
            solved_episodes=int(np.logical_or.reduceat(solved, data.starts).sum()),
        )

    @classmethod
    def merge(cls, shards: Sequence["RewardSummary"]) -> "RewardSummary":
        """The summary of several shards."""
        few = all(shard.counts for shard in shards)
        counts = sum((Counter(shard.counts) for shard in shards if few), Counter())
        return cls(
            rows=sum(shard.rows for shard in shards),
            episodes=sum(shard.episodes for shard in shards),
            counts=dict(sorted(counts.items())),
            rewards=np.concatenate([shard.rewards for shard in shards]),
            low=min(shard.low for shard in shards),
            high=max(shard.high for shard in shards),
            solved_rows=sum(shard.solved_rows for shard in shards),
            solved_episodes=sum(shard.solved_episodes for shard in shards),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "rewards": {f"{value:g}": count for value, count in self.counts.items()},
            "lowest_reward": self.low,
            "highest_reward": self.high,
            "masks_zero": self.solved_rows,
            "masks_one": self.rows - self.solved_rows,
            "episodes_solved": self.solved_episodes,
        }


@dataclass(frozen=True)
class DatasetSummary:
    """Sizes, extremes and samples of a data set, each one array with rows of every shard.

    **Arguments:** `windows` counts those drawn and those inside an episode; `observations` and
    `actions` are samples of evenly spaced rows; the extremes are the least and greatest entries of
    all rows.
    """

    lengths: Int[np.ndarray, " episodes"]
    windows: Int[np.ndarray, "shards 2"]
    observations: Float[np.ndarray, "rows obs"]
    observation_extremes: Float[np.ndarray, "extremes obs"]
    actions: Float[np.ndarray, "rows act"]
    action_extremes: Float[np.ndarray, "extremes act"]

    @classmethod
    def of(cls, data: DatasetStatistics, rows: int) -> "DatasetSummary":
        """The summary of a shard, with samples of about `rows` rows."""
        return cls(
            data.lengths,
            np.array([[data.windows, data.whole_windows]]),
            sample(data.array("observations"), rows).copy(),
            np.stack([data.observations.low, data.observations.high]),
            sample(data.array("actions"), rows).copy(),
            np.stack([data.actions.low, data.actions.high]),
        )

    @classmethod
    def merge(cls, shards: Sequence["DatasetSummary"]) -> "DatasetSummary":
        """The summary of shards of one width."""
        arrays = zip(*(vars(shard).values() for shard in shards), strict=True)
        return cls(*map(np.concatenate, arrays))

    @property
    def observation_range(self) -> Float[np.ndarray, "2 obs"]:
        extremes = self.observation_extremes
        return np.stack([extremes.min(axis=0), extremes.max(axis=0)])

    @property
    def action_range(self) -> Float[np.ndarray, "2 act"]:
        extremes = self.action_extremes
        return np.stack([extremes.min(axis=0), extremes.max(axis=0)])

    @property
    def rows(self) -> int:
        return int(self.lengths.sum())

    @property
    def window_share(self) -> float:
        """The share of the windows drawn that lie inside an episode."""
        drawn, whole = self.windows.sum(axis=0).tolist()
        return whole / max(drawn, 1)

    @property
    def saturation(self) -> Float[np.ndarray, " act"]:
        """The share of rows in which each entry of the action is at ±1."""
        return np.mean(values.at_bound(self.actions), axis=0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "episodes": len(self.lengths),
            "episode_lengths": {
                "shortest": int(self.lengths.min()),
                "median": float(np.median(self.lengths)),
                "longest": int(self.lengths.max()),
            },
            "windows_whole": self.window_share,
            "observation_size": self.observations.shape[1],
            "observation_low": self.observation_range[0].tolist(),
            "observation_high": self.observation_range[1].tolist(),
            "action_size": self.actions.shape[1],
            "action_low": self.action_range[0].tolist(),
            "action_high": self.action_range[1].tolist(),
            "action_saturation": self.saturation.tolist(),
        }

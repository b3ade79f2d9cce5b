"""What is said of a method's success rates on several tasks.

The definitions are those of Agarwal et al. (2021), *Deep Reinforcement Learning at the Edge of the
Statistical Precipice*, arXiv 2108.13264. Each function takes the success rates of each task, with
runs on the last axis; axes before it, such as resamples, are kept.
"""

import numpy as np
from jaxtyping import Float

from qamx.studies.bootstrap import Parts

THRESHOLDS = np.linspace(0.0, 1.0, 51)
"""Where a performance profile is drawn; 50 episodes have no success rates between."""


def mean(parts: Parts) -> Float[np.ndarray, "..."]:
    r"""The mean over tasks of the mean over runs, \(\frac1K\sum_k\frac1{n_k}\sum_i x_{ki}\)."""
    return np.mean([rates.mean(axis=-1) for rates in parts], axis=0)


def interquartile_mean(parts: Parts) -> Float[np.ndarray, "..."]:
    r"""The mean of the middle half of all runs on all tasks.

    Of \(n\) rates the \(\lfloor n/4\rfloor\) smallest and as many of the largest are left out.
    """
    pooled = np.concatenate(parts, axis=-1)
    count = pooled.shape[-1]
    cut = count // 4
    pooled = np.partition(pooled, (cut, count - cut - 1), axis=-1)
    return pooled[..., cut : count - cut].mean(axis=-1)


def improvement(one: Parts, other: Parts) -> Float[np.ndarray, "..."]:
    r"""The probability that a run of the first method beats one of the second on the same task.

    \(\frac1K\sum_k P(X_k>Y_k)+\frac12P(X_k=Y_k)\) over all pairs of runs of a task.
    """
    return np.mean([_wins(x, y) for x, y in zip(one, other, strict=True)], axis=0)


def profile(parts: Parts) -> Float[np.ndarray, "... thresholds"]:
    """The share of runs above each of `THRESHOLDS`, the mean over tasks."""
    return np.mean([_above(rates) for rates in parts], axis=0)


def _wins(
    x: Float[np.ndarray, "... runs"], y: Float[np.ndarray, "... others"]
) -> Float[np.ndarray, "..."]:
    signs = np.sign(x[..., :, None] - y[..., None, :])
    return 0.5 + 0.5 * signs.mean(axis=(-1, -2))


def _above(rates: Float[np.ndarray, "... runs"]) -> Float[np.ndarray, "... thresholds"]:
    # One threshold after the other: all at once would hold 51 copies of the resamples.
    return np.stack([(rates > threshold).mean(axis=-1) for threshold in THRESHOLDS], axis=-1)

"""Intervals and tests of success rates, and of their differences on the same seeds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

CONFIDENCE = 0.95
"""The coverage of intervals."""


def success_interval(solved: int, episodes: int) -> tuple[float, float]:
    """The exact interval of a success rate.

    **Source:** Clopper and Pearson (1934), *The use of confidence or fiducial limits illustrated
    in the case of the binomial*.
    """
    from scipy.stats import binomtest

    interval = binomtest(solved, episodes).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Pairing:
    """Numbers of seeds on which both, only the first, only the second, or neither succeeded."""

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> "Pairing":
        """Counts the successes of two policies on the same seeds."""
        pairs = (first & second, first & ~second, ~first & second, ~first & ~second)
        return cls(*(int(pair.sum()) for pair in pairs))

    @property
    def episodes(self) -> int:
        """The number of seeds."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The second success rate minus the first."""
        return (self.second - self.first) / self.episodes

    def interval(self) -> tuple[float, float]:
        r"""An interval of the difference of the two success rates.

        With \(p_i=(n_i+1)/(n+2)\) of the \(n_i\) seeds that only one of them solved, it is
        \(d\pm z\sqrt{(p_1+p_2-d^2)/(n+2)}\), where \(d=p_2-p_1\), cut at -1 and 1.

        **Source:** Bonett and Price (2012), *Adjusted Wald confidence interval for a difference
        of binomial proportions based on paired data*.
        """
        from scipy.stats import norm

        total = self.episodes + 2
        first, second = (self.first + 1) / total, (self.second + 1) / total
        centre = second - first
        reach = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((first + second - centre**2) / total)
        return max(-1.0, float(centre - reach)), min(1.0, float(centre + reach))

    def p_value(self) -> float:
        """McNemar's exact test that both succeed equally often.

        **Source:** McNemar (1947), *Note on the sampling error of the difference between
        correlated proportions or percentages*.
        """
        from scipy.stats import binomtest

        split = self.first + self.second
        return float(binomtest(self.first, split, 0.5).pvalue) if split else 1.0


def mean_interval(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Student's interval of the mean of paired differences; without ends for one pair alone."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return -np.inf, np.inf
    reach = t.ppf((1 + CONFIDENCE) / 2, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return float(differences.mean() - reach), float(differences.mean() + reach)

"""Comparison of an exported policy's actions with the recorded ones, and its latency."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qamx.deploy import metadata as files
from qamx.deploy.loading import ChunkPolicy, JaxPolicy, OnnxPolicy, load_policy
from qamx.deploy.metadata import Metadata

TOLERANCE = 1e-5
"""Allowed difference of actions in [-1, 1]."""

ROUNDED = {"tf32": 0.02, "bfloat16": 0.05}
"""The same for rounded matrix products: TF32 on CUDA, bfloat16 everywhere. Their errors of about
1e-3 and 1e-2 add up over a sampler's products."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one chunk, from an observation to actions, both in the host's memory."""

    median_ms: float
    p99_ms: float
    longest_ms: float
    first_s: float
    """Seconds of the first call, which compiles."""


@dataclass(frozen=True)
class Check:
    """The largest difference from the actions that were recorded, in the policy's units."""

    difference: float
    tolerance: float
    rows: int
    latency: Latency

    @property
    def bitwise(self) -> bool:
        """True if every action equals the recorded one."""
        return self.difference == 0.0

    @property
    def passed(self) -> bool:
        """True if the difference is within the tolerance."""
        return self.difference <= self.tolerance


def check(folder: Path | str, calls: int = 200) -> Check:
    """Acts on the recorded observations, compares, and times `calls` chunks.

    **Raises:** `UserError` as `load_policy`.
    """
    folder = Path(folder)
    policy = load_policy(folder)
    with np.load(folder / files.GOLDEN) as golden:
        recorded = dict(golden)
    latency = measure_latency(policy, recorded["observations"][:1], calls)
    actions = replay(policy, recorded)
    largest = difference(policy.metadata, actions, recorded["actions"])
    precision = str(policy.metadata.policy.get("precision"))
    rounded = precision == "bfloat16" or (precision == "tf32" and policy.platform == "cuda")
    tolerance = ROUNDED[precision] if rounded else TOLERANCE
    return Check(largest, tolerance, len(actions), latency)


def replay(policy: JaxPolicy | OnnxPolicy, recorded: Mapping[str, np.ndarray]) -> np.ndarray:
    """The policy's actions for recorded observations and random numbers."""
    if isinstance(policy, JaxPolicy):
        return policy.act_with_key(recorded["observations"], recorded["key_data"])
    noises = [recorded[draw.name] for draw in policy.metadata.draws]
    return policy.act_with_noise(recorded["observations"], noises)


def difference(metadata: Metadata, actions: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two arrays of actions, in the policy's units."""
    reach = metadata.units.reach if metadata.units.action_low.size else 1.0
    return float(np.max(np.abs(actions - expected) / reach))


def measure_latency(policy: ChunkPolicy, observation: np.ndarray, calls: int) -> Latency:
    """Times `calls` chunks for an observation [1, obs]."""
    seconds = []
    for call in range(calls + 1):
        began = time.perf_counter()
        policy.act(observation, 0, call)
        seconds.append(time.perf_counter() - began)
    first, *rest = seconds
    median, p99, longest = 1e3 * np.quantile(rest, (0.5, 0.99, 1.0))
    return Latency(float(median), float(p99), float(longest), first)

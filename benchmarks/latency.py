"""What a chunk of an exported policy costs against its matrix products, for one observation.

    python benchmarks/latency.py --method qam qam_edit --size paper

Networks are not trained: their numbers do not change their cost. Exported program, ONNX model and
products are timed in turn, in one process, on the host's processor; the median of the chunks and
the shortest time of each product count.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

from qamx._utils.flops import MatmulLowerBound, count
from qamx.building import build_agent
from qamx.deploy import Metadata, measure_latency
from qamx.deploy.loading import JaxPolicy, OnnxPolicy
from qamx.deploy.metadata import MODEL
from qamx.export.bundle import PLATFORMS, export_sampler
from qamx.export.onnx import export_onnx
from qamx.normalisation import Units
from qamx.tools.bench_measure import SIZES, settings_of

NOTHING = np.zeros(0, np.float32)
ROUNDS, CALLS = 10, 30


def main() -> None:
    """Prints a line of a Markdown table for each method."""
    parser = argparse.ArgumentParser(description="time chunks of exported policies")
    parser.add_argument("--method", nargs="+", default=["qam", "qam_edit", "fql", "ifql"])
    parser.add_argument("--size", choices=tuple(SIZES), default="paper")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    print("| method | products, ms | bundle, ms | over products | 99%, ms | ONNX, ms |")
    print("|---|---|---|---|---|---|")
    for method in arguments.method:
        with tempfile.TemporaryDirectory() as folder:
            print(line(method, arguments.size, Path(folder)), flush=True)


def line(method: str, size: str, folder: Path) -> str:
    """A method's row."""
    bundle, onnx, floor = prepared(method, size, folder)
    observation = np.zeros((1, SIZES[size].observation), np.float32)
    of_bundle, of_onnx, tails = [], [], []
    for _ in range(ROUNDS):
        floor.round()
        latency = measure_latency(bundle, observation, CALLS)
        of_bundle.append(latency.median_ms)
        tails.append(latency.p99_ms)
        of_onnx.append(measure_latency(onnx, observation, CALLS).median_ms)
    products = 1e3 * floor.seconds
    median = float(np.median(of_bundle))
    cells = (products, median, median / products, float(np.median(tails)), np.median(of_onnx))
    return f"| `{method}` | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"


def prepared(
    method: str, size: str, folder: Path
) -> tuple[JaxPolicy, OnnxPolicy, MatmulLowerBound]:
    """An untrained policy in both forms, and the floor of its products."""
    sizes = SIZES[size]
    settings = settings_of(method, **sizes.agent)
    agent = build_agent(settings, sizes.observation, sizes.action, jax.random.key(0))
    sampler = export_sampler(agent, sizes.observation, "tf32")
    sampler.write(folder)
    units = Units(NOTHING, NOTHING, NOTHING, NOTHING)
    exported = export_onnx(agent, sizes.observation, units, settings.horizon)
    (folder / MODEL).write_bytes(exported.model)
    metadata = Metadata(
        kind="bundle",
        observation_size=sizes.observation,
        action_size=sizes.action,
        horizon=settings.horizon,
        observation_keys=None,
        units=units,
        draws=exported.draws,
        platforms=PLATFORMS,
        calling_convention=sampler.convention,
        policy={},
        environment={},
        made_with={},
        evaluation=None,
        latency={},
        files={},
    )
    seen = np.zeros((1, sizes.observation), np.float32)
    floor = MatmulLowerBound(
        count(lambda x, key: agent.act_in_evaluation(x, key), seen, jax.random.key(0))
    )
    return JaxPolicy(folder, metadata), OnnxPolicy(folder, metadata), floor


if __name__ == "__main__":
    main()

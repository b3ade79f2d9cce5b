"""`qamx bench --for`: the update's program compiled for a GPU that is not there, and counted.

XLA compiles for a chip that a text describes (its GpuTargetConfig), without device or driver, and
writes down what it would start there (its thunks). Bytes and FLOP of a thunk are those of the
instruction of the compiled program that it carries out.
"""

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from qamx._utils.backend import check_jax, compiling_for
from qamx._utils.terminal import print_table
from qamx.errors import RunError, UserError, install_extra
from qamx.nn import Precision
from qamx.tools.bench_measure import MIB, BenchProblem, write_results
from qamx.tools.bench_program import KernelCost, read_launches, read_program
from qamx.training.state import ALONE, Stacked, Trainer

BANDWIDTH, FLOP_RATE, LAUNCH = 3.35e12, 400e12, 2.5e-6
"""Of the model: bytes a second (for a target file without them), FLOP a second, seconds of a
launch."""

OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
"""Of the compiler: kernels are not chosen by their times, which takes the chip, so matrix products
are the library's."""

THUNKS = ("thunk_sequence_after_thunk_passes", "thunk_metadata")
"""Texts that XLA writes while it compiles."""

REQUIRED = (
    *("threads_per_block_limit", "threads_per_warp", "threads_per_core_limit", "core_count"),
    *("shared_memory_per_block", "shared_memory_per_core", "fpus_per_core", "clock_rate_ghz"),
    *("block_dim_limit_x", "block_dim_limit_y", "block_dim_limit_z", "l2_cache_size"),
    *("registers_per_core_limit", "registers_per_block_limit", "device_memory_size"),
)
REQUIRED_FORMS = {
    'platform_name: "CUDA"': r'platform_name\s*:\s*"CUDA"',
    "cuda_compute_capability": r"cuda_compute_capability\s*:?\s*\{\s*major\s*:\s*\d",
}
"""Numbers of a target file, and patterns; without one XLA ends the process, with no message."""


@dataclass(frozen=True)
class Chip:
    """A GPU to compile for: XLA's description of it, and bytes a second."""

    text: str
    bandwidth: float
    described: bool
    """The bandwidth is the file's, not the H100's."""

    @classmethod
    def read(cls, name: str) -> "Chip":
        """The chip of the name `h100`, or of a file.

        **Raises:** `UserError` if it cannot be read or is no description of a CUDA device.
        """
        file = Path(__file__).with_name("h100.txtpb") if name == "h100" else Path(name)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not a text"
            raise UserError(f"--for {name}: {why}; write h100, or a file that exists") from error
        values = dict(re.findall(r"\b(\w+)\s*:\s*([\d.]+)", text))
        missing = [key for key in REQUIRED if key not in values]
        missing += [key for key, pattern in REQUIRED_FORMS.items() if not re.search(pattern, text)]
        if missing:
            raise UserError(_bad_target(name, f"found no {missing[0]}"))
        bandwidth = float(values.get("memory_bandwidth", 0))
        return cls(text, bandwidth or BANDWIDTH, bandwidth > 0)


@dataclass(frozen=True)
class GpuFigures:
    """Counts of one update of a method, of all `seeds` together."""

    method: str
    seeds: int
    kernels: int
    products: int
    graphs: int
    alone: int
    launch_bound: int
    """Kernels that take the model no longer than a launch."""
    gigabytes: float
    gflop: float
    """Of the matrix products."""
    model_ms: float
    temporary_mib: float
    compile_s: float


def bench_gpu(
    name: str,
    problems: Mapping[str, BenchProblem],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    file: Path | None,
) -> int:
    """Compiles each method for each number of seeds, prints a table and writes JSON.

    **Arguments:** `name` is `h100` or the path of a target file; `settings` have the precision,
    and go into the JSON.

    **Raises:** `UserError` without JAX's CUDA plugin, or for a bad target file.
    """
    chip = Chip.read(name)
    if not any("cuda" in plugin.name for plugin in entry_points(group="jax_plugins")):
        raise UserError(
            f"--for {name}: found JAX {jax.__version__} without its CUDA plugin, which compiles "
            f"for a GPU and needs none; {install_extra('cuda12')}"
        )
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # a kept program writes no thunks
    check_jax()
    device = _device(name, chip)
    rates = {"bandwidth": chip.bandwidth, "flop_rate": FLOP_RATE, "launch_s": LAUNCH}
    settings = {**settings, "device": device.device_kind or name, "model": rates}
    results: list[GpuFigures] = []
    for method, problem in problems.items():
        for count in seeds:
            print(f"{method}, seeds {count}: compiling", flush=True)
            figures = _figures(method, problem, count, settings["precision"], device, chip)
            results.append(figures)
            write_results(file, settings, results)
    _print(settings, chip, results)
    return 0


def _device(name: str, chip: Chip) -> Any:
    """JAX's device of a chip that is not there."""
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=chip.text, topology="1x1x1"
        )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(_bad_target(name, str(error).rstrip("."))) from error
    return topology.devices[0]


def _bad_target(name: str, found: str) -> str:
    return (
        f"--for {name}: {found}; write a GpuTargetConfig of XLA as text, such as "
        "qamx/tools/h100.txtpb"
    )


def _figures(
    method: str, problem: BenchProblem, seeds: int, precision: Precision, device: Any, chip: Chip
) -> GpuFigures:
    with compiling_for("cuda"):
        lowered = _lower(problem, seeds, precision, device)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        program = lowered.compile({**OPTIONS, **dump})
        compile_s = time.perf_counter() - began
        counted = read_program(program.as_text() or "")
        sequence, metadata = (_written(folder, kind) for kind in THUNKS)
        launches = read_launches(sequence, metadata, counted)
    memory = program.memory_analysis()
    kernels = [(counted.cost(kernel.name), kernel.times) for kernel in launches.kernels]
    seconds = [(model_seconds(cost, chip), times) for cost, times in kernels]
    return GpuFigures(
        method=method,
        seeds=seeds,
        kernels=sum(times for _, times in kernels),
        products=sum(cost.products * times for cost, times in kernels),
        graphs=launches.graphs,
        alone=launches.alone,
        launch_bound=sum(times for each, times in seconds if each <= LAUNCH),
        gigabytes=sum(cost.size * times for cost, times in kernels) / 1e9,
        gflop=sum(cost.flop * times for cost, times in kernels) / 1e9,
        model_ms=1e3 * sum(each * times for each, times in seconds),
        temporary_mib=(memory.temp_size_in_bytes if memory else 0) / MIB,
        compile_s=compile_s,
    )


def _lower(
    problem: BenchProblem, seeds: int, precision: Precision, device: Any
) -> jax.stages.Lowered:
    """The program of updates for shapes on a device; only one seed's state is computed."""
    state = problem.state(jax.random.key(0))
    stacking = ALONE if seeds == 1 else Stacked(seeds)
    axes = stacking.axes
    replay, parts = problem.replay(axes), (problem.optimiser, problem.sampling)
    trainer = Trainer(state, *parts, precision=precision, seeds=stacking)

    leaves, treedef = jax.tree.flatten(eqx.filter(state, eqx.is_array))

    def begin(arrays: Any, key: Any) -> Any:
        leaves = [jnp.broadcast_to(leaf, (*axes, *leaf.shape)) for leaf in arrays]
        return trainer.begin(treedef.unflatten(leaves), replay, jnp.broadcast_to(key, axes))

    shapes = (jax.eval_shape(begin, leaves, jax.random.key(0)), replay)
    sharding = SingleDeviceSharding(device)
    training, data = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )
    return trainer.lower(training, data)


def _written(folder: str, kind: str) -> str:
    """A text that XLA wrote while it compiled."""
    files = list(Path(folder).glob(f"*.{kind}.txt"))
    if len(files) != 1:
        raise RunError(f"JAX {jax.__version__} wrote {len(files)} files {kind} in place of one")
    return files[0].read_text(encoding="utf-8")


def model_seconds(cost: KernelCost, chip: Chip) -> float:
    """max(bytes / bandwidth, FLOP / rate, launch), of one kernel."""
    return max(cost.size / chip.bandwidth, cost.flop / FLOP_RATE, LAUNCH)


def _print(settings: Mapping[str, Any], chip: Chip, results: Sequence[GpuFigures]) -> None:
    title = "one update of all seeds, {size} size compiled for {device} (JAX {jax}), {precision}"
    header = ("method", "seeds", "kernels", "products", "graphs + alone", "GB moved", "model, ms")
    rows = [
        (
            each.method,
            *map(str, (each.seeds, each.kernels, each.products)),
            f"{each.graphs} + {each.alone}",
            *(f"{each.gigabytes:.3g}", f"{each.model_ms:.2f}", f"{each.temporary_mib:,.0f}"),
        )
        for each in results
    ]
    print_table(title.format(**settings), (*header, "temporaries, MiB"), rows)
    source = "the target file's" if chip.described else "an H100's: the target file has none"
    print(
        "model: the sum over kernels of max(bytes / bandwidth, FLOP / rate, launch)\n"
        f"  bandwidth {chip.bandwidth / 1e12:.2f} TB/s ({source}); launch {LAUNCH * 1e6:.1f} us\n"
        f"  rate {FLOP_RATE / 1e12:.0f} TFLOP/s, that of TF32 products on an H100, for any chip "
        "and precision;\n  FLOP of matrix products alone\n"
        "  no bytes are found in a cache, and no two kernels run at once\n"
        "  no autotuning, which takes the chip: products are cuBLASLt's"
    )

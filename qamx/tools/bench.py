"""`qamx bench`: measures methods, prints tables, writes JSON."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from qamx import registry
from qamx._utils.backend import check_jax, reserve_devices, use_device
from qamx._utils.terminal import print_table, working
from qamx.errors import UserError
from qamx.nn import Precision
from qamx.tools.bench_measure import (
    SIZES,
    BenchProblem,
    Figures,
    measure,
    settings_of,
    write_results,
)

METHODS = ("qam", "qam_edit")
"""Measured where none is named."""

SEEDS = (1, 2, 4, 8, 12)
"""Numbers of seeds that are timed where none is given."""


def bench(
    methods: Sequence[str],
    *,
    device: str | None,
    target: str | None,
    seeds: Sequence[int] | None,
    size: str | None,
    observation: int | None,
    action: int | None,
    precision: Precision,
    updates: int | None,
    rounds: int,
    file: Path | None,
) -> int:
    """Measures each method; what is None is chosen by the device and the size.

    With a `target`, counts the update's program for that GPU instead (`qamx.tools.bench_gpu`).

    **Raises:** `UserError` for a method, device, number or file that cannot be.
    """
    seeds = (SEEDS if target is None else (1,)) if seeds is None else seeds
    numbers = {"observation": observation, "action": action, "updates": updates, "rounds": rounds}
    _check(methods, (*(("seeds", count) for count in seeds), *numbers.items()), file)
    if target is None:
        reserve_devices(max(seeds, default=1))
        if device is not None:
            use_device(device)
        check_jax()
    on_cpu = target is None and jax.default_backend() == "cpu"
    name = size or ("quickstart" if on_cpu else "paper")
    sizes = SIZES[name]
    settings = {
        "jax": jax.__version__,
        "size": name,
        "observation": observation or sizes.observation,
        "action": action or sizes.action,
        "precision": precision,
    }
    shape = settings["observation"], settings["action"]
    agents = {method: settings_of(method, **sizes.agent) for method in methods or METHODS}
    problems = {method: BenchProblem(agent, *shape) for method, agent in agents.items()}
    if target is not None:
        if device is not None or updates is not None:
            other = "--device" if device is not None else "--updates"
            raise UserError(f"--for {target}: nothing runs there; leave {other} or --for out")
        from qamx.tools.bench_gpu import bench_gpu

        return bench_gpu(target, problems, seeds, settings, file)
    settings |= {"updates": updates or (sizes.updates if on_cpu else 100), "rounds": rounds}
    return _time(problems, seeds, settings, file)


def _time(
    problems: Mapping[str, BenchProblem],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    file: Path | None,
) -> int:
    device = {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind}
    settings = {**device, **settings}
    how = {name: settings[name] for name in ("precision", "updates", "rounds")}
    results: list[Figures] = []
    for method, problem in problems.items():
        print(f"{method}: compiling and measuring", flush=True)
        with working(method):
            results.append(measure(method, problem, tuple(seeds), **how))
        write_results(file, settings, results)
    _print(settings, results)
    return 0


def _check(
    methods: Sequence[str], numbers: Iterable[tuple[str, int | None]], file: Path | None
) -> None:
    for name, value in numbers:
        if value is not None and value < 1:
            raise UserError(f"--{name}: found {value}; write a positive integer, e.g. 4")
    for method in methods:
        registry.agents[method]
    if file is not None and not file.parent.is_dir():
        raise UserError(f"--json {file}: its folder does not exist; create it, or name another")


def _print(settings: dict[str, Any], results: list[Figures]) -> None:
    title = "{size} size on {device} ({backend}, JAX {jax}), {precision}".format(**settings)
    if settings["backend"] == "cpu" and settings["precision"] == "tf32":
        title = title.replace("tf32", "float32 (a CPU has no TF32)")
    names = [result.method for result in results]
    lines = [
        (label, *(format(getattr(result, name), form) for result in results))
        for label, name, form in LINES
    ]
    print_table(title, ("", *names), lines)
    rows = []
    for timings in zip(*(result.together for result in results), strict=True):
        cells = (f"{each.updates_per_second:.1f} ({each.over_one_seed:.2f})" for each in timings)
        rows.append((str(timings[0].seeds), *cells))
    title = "updates a second of all seeds together (over one seed alone)"
    print_table(title, ("seeds", *names), rows)


LINES = (
    ("GFLOP an update (matrix products)", "gflop", ".3g"),
    ("GFLOP by XLA (loops once)", "gflop_compiled", ".3g"),
    ("matrix products", "products", "d"),
    ("update, ms", "update_ms", ".3f"),
    ("sum of its products alone, ms", "floor_ms", ".3f"),
    ("over that sum", "over_floor", ".2f"),
    ("GFLOP a second", "gflop_per_second", ".1f"),
    ("a host loop's update, ms", "host_loop_ms", ".3f"),
    ("speed-up over a host loop", "over_host_loop", ".2f"),
    ("state, MiB", "state_mib", ".1f"),
    ("temporaries, MiB", "temporary_mib", ".1f"),
    ("trace, s", "trace_s", ".1f"),
    ("compile, s", "compile_s", ".1f"),
    ("policy calls a second (10 rows)", "act_calls_per_second", ".0f"),
)
"""Labels, fields and formats of the table."""

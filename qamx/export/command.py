"""`qamx export`: a run's policy as a folder that acts by itself."""

from pathlib import Path

from qamx._utils.machine import use_cpu
from qamx.deploy.metadata import Kind, read_metadata
from qamx.errors import ExitCode
from qamx.export.bundle import require_free, write_bundle
from qamx.export.source import Source


def export_run(directory: Path, kind: Kind, out: Path | None, step: int | None) -> int:
    """Writes the policy of a run, beside the run's folder by default, and says what it is.

    **Raises:** `UserError` for a run or folder that cannot be, `RunError` if the exported policy
    does not do what the training code does.
    """
    use_cpu()
    name = directory.resolve().name
    folder = out or directory.resolve().with_name(f"{name}-{kind}")
    require_free(folder)
    source = Source.of_run(directory, step)
    found = write_bundle(source, kind, folder)
    metadata = read_metadata(folder)
    same = "bitwise" if found.bitwise else f"within {found.difference:.0e}"
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    latency = metadata.latency
    lines = {
        "policy": f"{metadata.policy['method']} of {name}, step {source.step:,}",
        "observations": f"{metadata.observation_size} entries",
        "actions": f"chunks of {metadata.horizon} x {metadata.action_size} entries",
        "runs on": ", ".join(metadata.platforms),
        "check": f"{same} the training code's actions, on {found.rows} observations",
        "a chunk": (
            f"median {latency['median_ms']:.2f} ms, 99% {latency['p99_ms']:.2f} ms; "
            f"its matrix products {latency['products_ms']:.2f} ms"
        ),
        "written": f"{folder} ({size:.1f} MiB)",
    }
    for label, text in lines.items():
        print(f"{label:<13}{text}")
    return ExitCode.DONE

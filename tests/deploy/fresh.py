"""Exported policies in new environments that have nothing of qamx's training code.

    python tests/deploy/fresh.py

One has JAX and NumPy, the other ONNX Runtime and NumPy; qamx is installed without what it needs
to train.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "_support"))


def main() -> None:
    """Trains a little, exports in both forms, and acts in environments of their own."""
    from short_run import short_run

    from qamx.cli import main as qamx

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = short_run(folder)
        for kind, packages in (("bundle", ["jax"]), ("onnx", ["onnxruntime"])):
            exported = folder / kind
            if qamx(["export", str(run), "--format", kind, "--out", str(exported)]):
                raise SystemExit(f"{kind}: the export failed")
            python = environment(folder / f"{kind}-environment", [*packages, "numpy"])
            subprocess.run([python, "-m", "qamx.deploy", exported], check=True, cwd=folder)
            listed = [python, "-m", "pip", "list", "--format", "freeze"]
            print(subprocess.run(listed, check=True, capture_output=True, text=True).stdout)


def environment(folder: Path, packages: list[str]) -> Path:
    """The interpreter of a new environment with these packages, and qamx without its own."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *packages], check=True)
    subprocess.run([*install, "--no-deps", ROOT], check=True)
    return python


if __name__ == "__main__":
    main()

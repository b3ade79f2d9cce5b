"""The locomotion policy of an ant or humanoid maze, in NumPy."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qamx.data.ogbench.catalogue import default_directory, directory_option
from qamx.data.ogbench.rollout import Stamp, write_archive
from qamx.errors import UserError

Layer = tuple[Float[np.ndarray, "in out"], Float[np.ndarray, " out"]]
"""Kernel and bias."""

SIZES = {"ant": (29, 8), "humanoid": (69, 21)}
"""Entries of an observation (the walker's and two of a direction) and of an action."""


@dataclass(frozen=True)
class Expert:
    """The mean action of a tanh-Gaussian policy that walks in a given direction.

    NumPy evaluates one observation at a time in a fixed order of summation, so that an episode's
    bits do not depend on the number of threads, and workers need no JAX.

    **Arguments:**

    - `layers`: of a perceptron with GELU between them.
    - `sha256`: of the file that holds them.
    """

    layers: tuple[Layer, ...] = field(repr=False)
    sha256: str

    def act(self, observation: Float[np.ndarray, " obs"]) -> Float[np.ndarray, " act"]:
        """The action, in [-1, 1], for the walker's observation followed by the direction."""
        x = np.asarray(observation, np.float32)
        *hidden, last = self.layers
        for layer in hidden:
            x = _gelu(_affine(x, layer))
        return np.tanh(_affine(x, last))


def _affine(x: Float[np.ndarray, " in"], layer: Layer) -> Float[np.ndarray, " out"]:
    kernel, bias = layer
    # A BLAS sums in an order that may depend on its threads.
    return np.einsum("i,ij->j", x, kernel) + bias


def _gelu(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """As `qamx.nn.mlp.gelu`."""
    inner = np.float32(np.sqrt(2.0 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1.0) + np.tanh(inner))


def expert_path(walker: str, directory: Path) -> Path:
    """The file of a walker's expert in a data directory."""
    return directory / "experts" / f"{walker}.npz"


def training_command(walker: str, directory: Path) -> str:
    """The command that trains a walker's expert."""
    return f"qamx data expert {walker}{directory_option(directory)}"


def write_expert(path: Path, layers: Sequence[Layer], stamp: Stamp) -> None:
    """Writes the layers as plain arrays; the same layers and stamp give the same bytes."""
    arrays = {}
    for index, (kernel, bias) in enumerate(layers):
        arrays |= {f"kernel_{index}": kernel, f"bias_{index}": bias}
    write_archive(path, arrays, stamp)


def find_expert(walker: str, directory: Path) -> Expert | None:
    """The expert in a data directory, or else in the default one, if there is one."""
    paths = [expert_path(walker, folder) for folder in (directory, default_directory())]
    path = next((path for path in paths if path.exists()), None)
    return None if path is None else read_expert(path, walker)


def read_expert(path: Path, walker: str) -> Expert:
    """The expert in a file.

    **Raises:** `UserError` for a file that isn't a policy of this walker.
    """
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            count = sum(name.startswith("kernel_") for name in file)
            layers = tuple((file[f"kernel_{i}"], file[f"bias_{i}"]) for i in range(count))
        _check(layers, SIZES[walker])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a policy of the {walker} ({error}); delete it and train another: "
            f"{training_command(walker, path.parent.parent)}"
        ) from error
    return Expert(layers, hashlib.sha256(content).hexdigest())


def _check(layers: tuple[Layer, ...], sizes: tuple[int, int]) -> None:
    if not layers:
        raise ValueError("it holds no array kernel_0")
    widths = [sizes[0], *(kernel.shape[-1] for kernel, _ in layers[:-1]), sizes[1]]
    for index, (kernel, bias) in enumerate(layers):
        shapes = (widths[index], widths[index + 1]), (widths[index + 1],)
        if (kernel.shape, bias.shape) != shapes:
            raise ValueError(
                f"kernel_{index} and bias_{index} are of shapes {kernel.shape} and {bias.shape}, "
                f"not {shapes[0]} and {shapes[1]}"
            )
        if kernel.dtype != np.float32 or not all(np.isfinite(a).all() for a in (kernel, bias)):
            raise ValueError(f"kernel_{index} or bias_{index} isn't finite, or not float32")

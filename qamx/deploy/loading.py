"""Loading of exported policies."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qamx._utils.backend import check_device
from qamx._utils.checks import checked_observations
from qamx._utils.hub import local_folder
from qamx.deploy import metadata as files
from qamx.deploy.metadata import Metadata, read_metadata
from qamx.errors import UserError


class ChunkPolicy(Protocol):
    """A policy that maps observations to chunks of actions."""

    metadata: Metadata

    def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
        """Chunks [batch, horizon, act], in the environment's units, for observations [batch, obs].

        The draw is a function of `seed` and of `call`, the number of the chunk in an episode.
        """
        ...


def load_policy(folder: Path | str) -> "JaxPolicy | OnnxPolicy":
    """The policy in a folder that `qamx export` wrote, or of `hf:USER/NAME` on the Hub.

    **Raises:** `UserError` for a folder without one, a file that is missing or damaged, a package
    that is missing, or a bundle that this JAX or this device cannot run.
    """
    folder = local_folder(folder, configured=False)
    metadata = read_metadata(folder)
    return (JaxPolicy if metadata.kind == "bundle" else OnnxPolicy)(folder, metadata)


def checked(metadata: Metadata, observations: np.ndarray) -> np.ndarray:
    """The observations as float32.

    **Raises:** `ValueError` for another shape, or numbers that are not finite.
    """
    return checked_observations(observations, metadata.observation_size)


class JaxPolicy:
    """A sampler that `jax.export` serialised, and its weights."""

    def __init__(self, folder: Path, metadata: Metadata):
        import jax

        check_device()
        self.metadata = metadata
        self.platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        if self.platform not in metadata.platforms:
            raise UserError(
                f"{folder}: exported for {', '.join(metadata.platforms)}, and JAX runs on "
                f"{self.platform} here; set JAX_PLATFORMS=cpu"
            )
        with np.load(folder / files.WEIGHTS) as weights:
            self._weights = [jax.device_put(weights[str(i)]) for i in range(len(weights.files))]
        try:
            self._sample: Callable[..., Any] = jax.jit(self._program(folder).call)
            self._sample.lower(self._weights, *self._shapes(1))
        except Exception as error:
            made = metadata.made_with.get("jax")
            raise UserError(
                f"{folder / files.SAMPLER}: JAX {jax.__version__} cannot read what {made} wrote "
                f"({type(error).__name__}: {error}); install that version, or export again"
            ) from error

    def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
        words = np.random.SeedSequence([seed, call]).generate_state(2, np.uint32)
        return self.act_with_key(observations, words)

    def act_with_key(self, observations: np.ndarray, key_data: np.ndarray) -> np.ndarray:
        """The same, with the two words of a key of JAX (`jax.random.key_data`)."""
        units = self.metadata.units
        seen = units.observations(checked(self.metadata, observations))
        flat = np.asarray(self._sample(self._weights, seen, np.asarray(key_data, np.uint32)))
        return units.to_environment(flat.reshape(len(flat), self.metadata.horizon, -1))

    def _program(self, folder: Path) -> Any:
        """The exported program, in a new `Exported` object for the same arguments.

        `export.deserialize` would need one more package (flatbuffers) for that object alone.
        """
        import jax
        from jax import export

        metadata = self.metadata
        dim = metadata.horizon * metadata.action_size
        convention = metadata.calling_convention
        first = export.minimum_supported_calling_convention_version
        last = export.maximum_supported_calling_convention_version
        if not isinstance(convention, int) or not first <= convention <= last:
            raise ValueError(f"calling convention {convention}, not {first} to {last}")

        def frame(weights: Any, seen: Any, words: Any) -> Any:
            return jax.numpy.zeros((seen.shape[0], dim), seen.dtype)

        (batch,) = export.symbolic_shape("b")
        exported = export.export(jax.jit(frame), platforms=metadata.platforms)(
            [jax.ShapeDtypeStruct(weight.shape, weight.dtype) for weight in self._weights],
            *self._shapes(batch),
        )
        return dataclasses.replace(
            exported,
            mlir_module_serialized=(folder / files.SAMPLER).read_bytes(),
            calling_convention_version=convention,
            module_kept_var_idx=tuple(range(len(self._weights) + 2)),
        )

    def _shapes(self, batch: Any) -> list[Any]:
        """The shapes of observations and of a key's words."""
        import jax

        seen = jax.ShapeDtypeStruct((batch, self.metadata.observation_size), np.float32)
        return [seen, jax.ShapeDtypeStruct((2,), np.uint32)]


class OnnxPolicy:
    """An ONNX model, which takes its random numbers as inputs."""

    platform = "onnx"

    def __init__(self, folder: Path, metadata: Metadata):
        self.metadata = metadata
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("an ONNX policy needs ONNX Runtime: pip install onnxruntime") from error
        try:
            model, providers = str(folder / files.MODEL), ["CPUExecutionProvider"]
            self._session = onnxruntime.InferenceSession(model, providers=providers)
        except Exception as error:
            raise UserError(
                f"{folder / files.MODEL}: ONNX Runtime {onnxruntime.__version__} cannot read it "
                f"({type(error).__name__}: {error}); install a later version, or export again"
            ) from error

    def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
        draws = np.random.default_rng([seed, call])
        shapes = [draw.whole(len(observations)) for draw in self.metadata.draws]
        noises = [draws.standard_normal(shape, np.float32) for shape in shapes]
        return self.act_with_noise(observations, noises)

    def act_with_noise(self, observations: np.ndarray, noises: list[np.ndarray]) -> np.ndarray:
        """The same, with the standard normal numbers of `metadata.draws`."""
        inputs = {"observations": checked(self.metadata, observations)}
        inputs |= {d.name: noise for d, noise in zip(self.metadata.draws, noises, strict=True)}
        return np.asarray(self._session.run(["actions"], inputs)[0])

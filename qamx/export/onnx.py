"""A policy as an ONNX model: raw observations and normal numbers in, actions out."""

import logging
import re
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.deploy.metadata import Draw
from qamx.errors import UserError
from qamx.export.draws import record_draws, with_draws_as_arguments
from qamx.normalisation import Units


class OnnxModel(NamedTuple):
    """A model, serialised, and the random inputs that it takes beside `observations`."""

    model: bytes
    draws: tuple[Draw, ...]


def in_units_of_environment(agent: AbstractAgent, units: Units, horizon: int) -> Any:
    """The agent's sampler from raw observations to chunks of raw actions, traceable by JAX."""

    def act(observations: Float[Array, "b obs"], key: Key) -> Float[Array, "b horizon act"]:
        if units.observation_mean.size:
            observations = (observations - units.observation_mean) / units.observation_deviation
        flat = agent.act_in_evaluation(observations, key)
        chunks = flat.reshape(flat.shape[0], horizon, flat.shape[1] // horizon)
        if not units.action_low.size:
            return chunks
        raw = units.centre + chunks * units.reach
        return jnp.clip(raw, units.action_low, units.action_high)

    return act


def export_onnx(
    agent: AbstractAgent, observation_size: int, units: Units, horizon: int
) -> OnnxModel:
    """The agent, as it acts in evaluations, as an ONNX model for any number of observations.

    Inputs are `observations` [b, obs] and the standard normal numbers `noise_0`, ...; the output
    is `actions` [b, horizon, act]. Matrix products are float32.

    **Raises:** `UserError` without the extra `onnx`, and for a policy of one's own that does what
    the converter does not know.
    """
    to_onnx = _converter()
    act = in_units_of_environment(agent, units, horizon)
    shape = (*export.symbolic_shape("b"), observation_size)
    observations = jax.ShapeDtypeStruct(shape, jnp.float32)
    program, drawn = with_draws_as_arguments(act, observations, jax.random.key(0))
    draws = tuple(_draw(index, one.shape) for index, one in enumerate(drawn))

    def function(*arguments: Any) -> Any:
        return core.jaxpr_as_fun(program)(*arguments)[0]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = to_onnx(
                function,
                [observations, *drawn],
                model_name="policy",
                input_names=["observations", *(draw.name for draw in draws)],
                output_names=["actions"],
            )
    except NotImplementedError as error:
        raise UserError(
            f"--format onnx: the converter does not know what the policy does ({error}); use "
            "--format bundle"
        ) from error
    return OnnxModel(model.SerializeToString(), draws)


def recorded(
    agent: AbstractAgent,
    observations: Float[np.ndarray, "batch obs"],
    key: Key,
    draws: tuple[Draw, ...],
) -> dict[str, np.ndarray]:
    """The normal numbers that the agent draws, by the names of a model's inputs."""
    _, drawn = record_draws(agent.act_in_evaluation, jnp.asarray(observations), key)
    return {draw.name: np.asarray(value) for draw, value in zip(draws, drawn, strict=True)}


def _converter() -> Any:
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f'--format onnx needs the package {error.name}: pip install "qamx[onnx]"'
        ) from error
    del onnxruntime
    # It speaks of every value whose type it leaves to the runtime.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    return to_onnx


def _draw(index: int, shape: tuple[Any, ...]) -> Draw:
    """An input of that shape, one of whose axes is a multiple of the batch b."""
    (axis,) = (axis for axis, size in enumerate(shape) if not isinstance(size, int))
    multiple = re.fullmatch(r"(?:(\d+)\*)?b", str(shape[axis]))
    if multiple is None:
        raise UserError(
            f"--format onnx: a draw of {shape} is not a number of rows for each observation; use "
            "--format bundle"
        )
    rest = (*shape[:axis], *shape[axis + 1 :])
    return Draw(f"noise_{index}", rest, axis, int(multiple[1] or 1))

"""ONNX: the sampler with its draws as inputs."""

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.core import Tracer
from jax.extend import core
from jax.interpreters import partial_eval
from jaxtyping import Array, Float

from qamx._types import Key
from qamx._utils.units import Units
from qamx.agents import AbstractAgent
from qamx.deploy.metadata import Draw
from qamx.errors import UserError, install_extra

Answer: TypeAlias = Callable[[Any, Sequence[Any]], Any]
"""Gives the value of a normal draw from its equation and the equation's inputs."""

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call another program, and the parameter that holds it."""

_COMPOSED = frozenset(("maybe_set", "nonbatchable", "select_if_vmap", "unvmap_any"))
"""Primitives of Equinox's loops (Diffrax's solver stages), evaluated by their implementations."""


def record_draws(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[jax.Array]]:
    """The function's result, and the standard normal numbers that it drew."""
    drawn: list[jax.Array] = []

    def answer(equation: Any, inputs: Sequence[Any]) -> Any:
        (value,) = equation.primitive.bind(*inputs, **equation.params)
        drawn.append(value)
        return value

    program = jax.make_jaxpr(function)(*arguments)
    (result,) = _evaluate(program.jaxpr, program.consts, arguments, answer)
    return result, drawn


def with_draws_as_arguments(
    function: Callable[..., Any], observations: jax.ShapeDtypeStruct, key: Any
) -> tuple[core.ClosedJaxpr, list[jax.ShapeDtypeStruct]]:
    """The program of `function(observations, key)` with its draws as further arguments.

    **Returns:** the program of the observations and the draws, and the shapes of those.

    **Raises:** `UserError` if the function draws other numbers than standard normal ones.
    """
    program = jax.make_jaxpr(function)(observations, key)
    drawn: list[jax.ShapeDtypeStruct] = []

    def collect(equation: Any, inputs: Sequence[Any]) -> Any:
        aval = equation.outvars[0].aval
        drawn.append(jax.ShapeDtypeStruct(aval.shape, aval.dtype))
        return jnp.zeros(aval.shape, aval.dtype)

    def evaluated(answer: Answer) -> Callable[..., Any]:
        return lambda seen: _evaluate(program.jaxpr, program.consts, (seen, key), answer)[0]

    jax.eval_shape(evaluated(collect), observations)

    def lifted(seen: Any, *values: Any) -> Any:
        supply = iter(values)
        return evaluated(lambda equation, inputs: next(supply))(seen)

    whole = jax.make_jaxpr(lifted)(observations, *drawn)
    needed, _ = partial_eval.dce_jaxpr(whole.jaxpr, [True], instantiate=True)
    random = {e.primitive.name for e in needed.eqns if "random" in e.primitive.name}
    if random:
        raise UserError(
            f"--format onnx: the policy draws numbers that are not normal ({', '.join(random)}); "
            "use --format bundle"
        )
    return core.ClosedJaxpr(needed, whole.consts), drawn


def _evaluate(
    jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], answer: Answer
) -> list[Any]:
    """A program's results; `answer` gives the values of its normal draws."""
    names = (*jaxpr.constvars, *jaxpr.invars)
    values: dict[Any, Any] = dict(zip(names, (*constants, *arguments), strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        values.update(zip(equation.outvars, _results(equation, inputs, answer), strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _results(equation: Any, inputs: list[Any], answer: Answer) -> Sequence[Any]:
    name = equation.primitive.name
    if equation.params.get("name") == "_normal":
        return [answer(equation, inputs)]
    if name in _CALLS:
        inner = equation.params[_CALLS[name]]
        constants = getattr(inner, "consts", ())
        return _evaluate(getattr(inner, "jaxpr", inner), constants, inputs, answer)
    if name in _LOOPS:
        return _LOOPS[name](equation, inputs, answer)
    # Results that depend on no argument are constants of the program.
    with jax.ensure_compile_time_eval() if _constant(equation, inputs) else nullcontext():
        act = equation.primitive.impl if name in _COMPOSED else equation.primitive.bind
        results = act(*inputs, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def _constant(equation: Any, inputs: list[Any]) -> bool:
    """True if the results are known at export; random numbers and batch sizes are not."""
    sizes = [size for variable in equation.outvars for size in variable.aval.shape]
    return (
        bool(inputs)
        and "random" not in equation.primitive.name
        and all(isinstance(size, int) for size in sizes)
        and not any(isinstance(value, Tracer) for value in inputs)
    )


def _scan(equation: Any, inputs: list[Any], answer: Answer) -> list[Any]:
    body, length = equation.params["jaxpr"], equation.params["length"]
    constants = equation.params["num_consts"]
    first = constants + equation.params["num_carry"]
    fixed, carry, slices = inputs[:constants], inputs[constants:first], inputs[first:]
    steps = reversed(range(length)) if equation.params["reverse"] else range(length)
    rows: dict[int, list[Any]] = {}
    for step in steps:
        arguments = [*fixed, *carry, *(values[step] for values in slices)]
        results = _evaluate(body.jaxpr, body.consts, arguments, answer)
        carry, rows[step] = results[: len(carry)], results[len(carry) :]
    columns = zip(*(rows[step] for step in range(length)), strict=True)
    return [*carry, *(jnp.stack(column) for column in columns)]


def _while(equation: Any, inputs: list[Any], answer: Answer) -> list[Any]:
    condition, body = equation.params["cond_jaxpr"], equation.params["body_jaxpr"]
    first = equation.params["cond_nconsts"]
    second = first + equation.params["body_nconsts"]
    of_condition, fixed, carry = inputs[:first], inputs[first:second], inputs[second:]
    while True:
        arguments = [*of_condition, *carry]
        (running,) = _evaluate(condition.jaxpr, condition.consts, arguments, answer)
        if isinstance(running, Tracer):
            raise UserError(
                "--format onnx: the policy has a loop whose length is known only when it acts; use "
                "--format bundle"
            )
        if not running:
            return carry
        carry = _evaluate(body.jaxpr, body.consts, [*fixed, *carry], answer)


_LOOPS = {"scan": _scan, "while": _while}
"""Loops, unrolled."""


class OnnxModel(NamedTuple):
    """A serialised model, and its random inputs."""

    model: bytes
    draws: tuple[Draw, ...]


def in_units_of_environment(agent: AbstractAgent, units: Units, horizon: int) -> Any:
    """The agent's sampler from raw observations to chunks of raw actions."""

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

    **Raises:** `UserError` without the extra `onnx`, and for a policy that the converter does not
    support.
    """
    to_onnx = _converter()
    act = in_units_of_environment(agent, units, horizon)
    shape = (*export.symbolic_shape("b"), observation_size)
    observations = jax.ShapeDtypeStruct(shape, jnp.float32)
    program, drawn = with_draws_as_arguments(act, observations, jax.random.key(0))
    draws = tuple(_draw(index, draw.shape) for index, draw in enumerate(drawn))

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
        text = f"--format onnx needs the package {error.name}: {install_extra('onnx')}"
        raise UserError(text) from error
    del onnxruntime
    # It warns of every value whose type it leaves to the runtime.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    return to_onnx


def _draw(index: int, shape: tuple[Any, ...]) -> Draw:
    """The input of a draw, one of whose axes is a multiple of the batch b."""
    (axis,) = (axis for axis, size in enumerate(shape) if not isinstance(size, int))
    multiple = re.fullmatch(r"(?:(\d+)\*)?b", str(shape[axis]))
    if multiple is None:
        raise UserError(
            f"--format onnx: a draw of {shape} is not a number of rows for each observation; use "
            "--format bundle"
        )
    rest = (*shape[:axis], *shape[axis + 1 :])
    return Draw(f"noise_{index}", rest, axis, int(multiple[1] or 1))

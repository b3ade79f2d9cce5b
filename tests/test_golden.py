"""One update of each method against the published implementation's numbers.

Driven by the files: every `*.npz` in the folder that `QAMX_GOLDEN` names (default: the folder
beside this file). A file carries its method, sizes, weights and batch; the agent is built from
them, and losses, gradients, updated parameters and a sampled action are compared.
"""

import json
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx._types import Batch
from qamx.agents import QAM, QAMFQL, Parts, QAMEdit, adam, create_state, update
from qamx.flow import Integrator
from qamx.nn import LayerNorm, Networks
from qamx.rl import Backup, trainable
from qamx.schedules.temperature import Constant

FOLDER = Path(os.environ.get("QAMX_GOLDEN") or Path(__file__).parent / "golden").expanduser()
FILES = sorted(FOLDER.glob("*.npz"))


# --- the noise of the files: a constant of the drawn shape alone ---


def _draws(stream, shape):
    return np.random.default_rng([stream, *(n for n in shape if n != 1)])


def _normal(key, shape=(), dtype=jnp.float32):
    squeezed = tuple(n for n in shape if n != 1)
    return jnp.asarray(_draws(1, shape).standard_normal(squeezed).reshape(shape), jnp.float32)


def _uniform(key, shape=(), dtype=jnp.float32, minval=0.0, maxval=1.0):
    squeezed = tuple(n for n in shape if n != 1)
    draws = _draws(2, shape).random(squeezed).reshape(shape)
    return jnp.asarray(minval + (maxval - minval) * draws, jnp.float32)


def _randint(key, shape, minval, maxval, dtype=jnp.int32):
    squeezed = tuple(n for n in shape if n != 1)
    draws = _draws(3, shape).random(squeezed).reshape(shape)
    return jnp.asarray(np.floor(minval + (maxval - minval) * draws), jnp.int32)


# --- from a file to an agent ---


class Golden:
    """One file: its settings, and its arrays by section and network."""

    def __init__(self, path):
        self.arrays = dict(np.load(path))
        meta = json.loads(bytes(self.arrays.pop("meta")))
        self.method = meta["method"]
        self.dims = meta["dims"]
        self.config = {**self.dims["cfg"], **meta.get("config", {}), **meta["overrides"]}

    def network(self, section, name):
        """The arrays of one network, by the path below it (wrapper names dropped)."""
        prefix = f"{section}/modules_{name}/"
        found = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
        return {_unwrapped(path): value for path, value in found.items()}

    def batch(self):
        data = {k[6:]: jnp.asarray(v) for k, v in self.arrays.items() if k.startswith("batch/")}
        return Batch(
            observations=data["observations"],
            actions=data["actions"].reshape(len(data["actions"]), -1),
            rewards=data["rewards"][:, -1],
            masks=data["masks"][:, -1],
            valid=data["valid"][:, -1],
            next_observations=data["next_observations"][:, -1],
        )

    def parts(self):
        config, dims = self.config, self.dims
        networks = Networks(
            observation_size=dims["obs"],
            action_dim=dims["act"] * dims["horizon"],
            actor_hidden=tuple(config["actor_hidden_dims"]),
            critic_hidden=tuple(config["value_hidden_dims"]),
            ensemble_size=config["num_qs"],
            actor_layer_norm=config["actor_layer_norm"],
            critic_layer_norm=config["value_layer_norm"],
        )
        backup = Backup(config["discount"], dims["horizon"], config["rho"])
        return Parts(networks, backup, Integrator(config["flow_steps"]), config["tau"])


def _unwrapped(path):
    wrappers = {"value_net", "mlp", "MLP_0"}
    return "/".join(part for part in path.split("/") if part not in wrappers)


def _qam(golden):
    key, tau = jax.random.key(0), Constant(golden.config["inv_temp"])
    return QAM(golden.parts(), inverse_temperature=tau, key=key)


def _qam_fql(golden):
    key, tau = jax.random.key(0), Constant(golden.config["inv_temp"])
    weight = golden.config["fql_alpha"]
    return QAMFQL(golden.parts(), inverse_temperature=tau, distill_weight=weight, key=key)


def _qam_edit(golden):
    key, tau = jax.random.key(0), Constant(golden.config["inv_temp"])
    return QAMEdit(
        golden.parts(),
        inverse_temperature=tau,
        edit_scale=golden.config["edit_scale"],
        target_entropy_scale=golden.config["edit_target_entropy_multiplier"],
        key=key,
    )


BUILDERS = {"qam": _qam, "qam_fql": _qam_fql, "qam_edit": _qam_edit}


def _flow(agent):
    """The adjoint-matched flow inside a QAM policy."""
    policy = agent.policy
    return getattr(policy, "flow", getattr(policy, "policy", policy))


# Each network of a file and where it stands in the agent.
CRITIC = {
    "critic": lambda agent: agent.critic.critic.online.members,
    "target_critic": lambda agent: agent.critic.critic.target.members,
}
FLOWS = {
    "actor_slow": lambda agent: _flow(agent).behaviour_pair.online.velocity.mlp,
    "target_actor_slow": lambda agent: _flow(agent).behaviour_pair.target.velocity.mlp,
    "actor_fast": lambda agent: _flow(agent).velocity.mlp,
}
PLACES = {
    "qam": CRITIC | FLOWS,
    "qam_fql": CRITIC | FLOWS | {"one_step_actor": lambda agent: agent.policy.network},
    "qam_edit": CRITIC
    | FLOWS
    | {
        "edit_actor": lambda agent: agent.policy.actor,
        "edit_alpha": lambda agent: agent.policy.entropy.temperature,
    },
}


def _slots(module):
    """The arrays of a network by the names that the files use."""
    if hasattr(module, "log_value"):
        return {"log_value": lambda m: m.log_value}
    if hasattr(module, "log_std"):
        slots = _trunk_slots(module.trunk, lambda m: m.trunk)
        slots |= _linear_slots("OutputDenseMean", lambda m: m.mean)
        return slots | _linear_slots("OutputDenseLogStd", lambda m: m.log_std)
    head = f"Dense_{len(module.trunk.layers)}"
    return _trunk_slots(module.trunk, lambda m: m.trunk) | _linear_slots(head, lambda m: m.head)


def _linear_slots(name, where):
    return {
        f"{name}/kernel": lambda m: where(m).kernel,
        f"{name}/bias": lambda m: where(m).bias,
    }


def _trunk_slots(trunk, where):
    slots = {}
    for i in range(len(trunk.layers)):
        slots |= _linear_slots(f"Dense_{i}", lambda m, i=i: where(m).layers[i])
    for i in range(len(trunk.norms)):
        slots[f"LayerNorm_{i}/scale"] = lambda m, i=i: where(m).norms[i].scale
        slots[f"LayerNorm_{i}/bias"] = lambda m, i=i: where(m).norms[i].bias
    return slots


def _with_norms_of(values, place, agent):
    """The agent whose network has a layer norm where, and only where, the file has one."""
    trunk = getattr(place(agent), "trunk", None)
    normed = any("LayerNorm" in slot for slot in values)
    if trunk is None or normed == bool(trunk.norms):
        return agent
    norms = tuple(LayerNorm(layer.bias.shape[-1]) for layer in trunk.layers) if normed else ()
    return eqx.tree_at(lambda a: place(a).trunk.norms, agent, norms)


def _load(golden, agent):
    """The agent with every array of the file in its place."""
    for name, place in PLACES[golden.method].items():
        values = golden.network("params", name)
        agent = _with_norms_of(values, place, agent)
        slots = _slots(place(agent))
        assert slots.keys() == values.keys(), name
        for slot, get in slots.items():
            value = jnp.asarray(values[slot])
            assert get(place(agent)).shape == value.shape, f"{name}/{slot}"
            agent = eqx.tree_at(lambda a, get=get, place=place: get(place(a)), agent, value)
    return agent


def _agent(golden):
    known = ", ".join(BUILDERS)
    assert golden.method in BUILDERS, f"no method {golden.method!r} here; known: {known}"
    return _load(golden, BUILDERS[golden.method](golden))


# --- the comparisons ---

# A loss of the file and the metric that must equal it.
TERMS = {
    "loss/total": "UpdateMetrics.loss",
    "info/critic/critic_loss": "CriticMetrics.loss",
    "info/critic/q_mean": "CriticMetrics.q_mean",
    "info/critic/q_min": "CriticMetrics.q_min",
    "info/critic/q_max": "CriticMetrics.q_max",
    "info/actor/flow_loss": "BehaviourFlowMetrics.loss",
    "info/actor/fast_loss": "AdjointMatchingMetrics.loss",
    "info/actor/adj_loss": "AdjointMatchingMetrics.loss",
    "info/actor/adj_mean": "AdjointMatchingMetrics.boundary_mean",
    "info/actor/adj_std": "AdjointMatchingMetrics.boundary_std",
    "info/actor/adj_max": "AdjointMatchingMetrics.boundary_max",
    "info/actor/fql_distill_loss": "OneStepMetrics.distill_loss",
    "info/actor/fql_q_loss": "OneStepMetrics.q_loss",
    "info/actor/edit_q_loss": "EditMetrics.q_loss",
    "info/actor/edit_entropy_loss": "EditMetrics.entropy_loss",
    "info/actor/edit_alpha_loss": "EditMetrics.temperature_loss",
    "info/actor/edit_entropy": "EditMetrics.entropy",
    "info/actor/edit_alpha": "EditMetrics.temperature",
}


def _optimiser(golden):
    clip = 1.0 if golden.config.get("clip_grad", False) else None
    return adam(golden.config["lr"], clip)


def _close(actual, expected, tolerance, what):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    assert np.all(np.isfinite(actual)), what
    scale = max(np.abs(expected).max(initial=0.0), 1e-12)
    error = np.abs(actual - expected).max(initial=0.0) / scale
    assert error <= tolerance, f"{what}: off by {error:.2e} of the largest entry"


class Outcome:
    """What our update makes of a file: metrics, gradients, the agent after, a sampled action."""

    def __init__(self, golden):
        self.golden, self.before = golden, _agent(golden)
        optimiser = _optimiser(golden)
        state = create_state(self.before, optimiser, jax.random.key(0))
        # A new function each time, so that no trace with other noise is found again.
        state, metrics = eqx.filter_jit(lambda s, b: update(s, b, optimiser))(state, golden.batch())
        self.after = state.agent
        self.metrics = {
            f"{type(record).__name__}.{name}": value
            for record in metrics
            for name, value in vars(record).items()
        }
        self.gradients = eqx.filter_jit(_gradients)(self.before, golden.batch())
        observation = jnp.asarray(golden.arrays["sample/observation"])[None]
        self.action = self.before.act(observation, jax.random.key(0))[0]


def _gradients(agent, batch):
    trained, rest = eqx.partition(agent, trainable(agent))

    def total(trained):
        return eqx.combine(trained, rest).loss(batch, jax.random.key(0))[0]

    return eqx.filter_grad(total)(trained)


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def outcome(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "normal", _normal)
        patch.setattr(jax.random, "uniform", _uniform)
        patch.setattr(jax.random, "randint", _randint)
        yield Outcome(Golden(request.param))


def test_files_are_found():
    assert FILES, f"no golden vectors in {FOLDER}"


def test_losses(outcome):
    arrays = outcome.golden.arrays
    named = {k for k in arrays if k.startswith(("loss/", "info/"))}
    assert named <= TERMS.keys()
    for term in named:
        _close(outcome.metrics[TERMS[term]], arrays[term], 1e-4, term)


def test_gradients(outcome):
    golden = outcome.golden
    for name, place in PLACES[golden.method].items():
        expected = golden.network("grads", name)
        for slot, get in _slots(place(outcome.before)).items():
            actual = get(place(outcome.gradients))
            if actual is None:  # A target: the optimiser never sees it.
                assert not np.any(expected[slot]), f"{name}/{slot}"
                continue
            _close(actual, expected[slot], 1e-3, f"{name}/{slot}")


def test_the_gradient_norm_that_is_clipped_is_that_of_all_networks(outcome):
    gradients = {k: v for k, v in outcome.golden.arrays.items() if k.startswith("grads/")}
    norm = np.sqrt(sum(np.sum(np.square(value, dtype=float)) for value in gradients.values()))
    _close(outcome.metrics["UpdateMetrics.gradient_norm"], norm, 1e-3, "gradient norm")


def test_updated_parameters(outcome):
    golden, rate = outcome.golden, outcome.golden.config["tau"]
    for name, place in PLACES[golden.method].items():
        before = golden.network("params", name)
        after = golden.network("updated", name.removeprefix("target_"))
        for slot, get in _slots(place(outcome.before)).items():
            step = after[slot] - before[slot]
            if name.startswith("target_"):
                # The specification's order: targets average the parameters of after the step.
                step = rate * step
            moved = np.asarray(get(place(outcome.after))) - before[slot]
            _close_step(moved, step, golden.config["lr"], f"{name}/{slot}")


def _close_step(moved, expected, lr, what):
    # The first Adam step is lr x the sign of the gradient wherever the gradient is far from zero,
    # and parameters are float32: compare steps to a hundredth of a step and float32's spacing.
    assert np.all(np.isfinite(moved)), what
    error = np.abs(moved - expected).max(initial=0.0)
    assert error <= 1e-2 * lr + 4e-7, f"{what}: the step is off by {error:.2e}"


def test_sampled_action(outcome):
    expected = outcome.golden.arrays["sample/action"].reshape(-1)
    _close(outcome.action, expected, 1e-4, "sample/action")

"""Updates of each method against the published implementation's numbers.

Driven by the files: every `*.npz` in the folder that `QAMX_GOLDEN` names (default: the folder
beside this file). A file carries its method, sizes, weights and batch; the agent is built from
them. Of one update, losses, gradients, updated parameters and a sampled action are compared. A
file whose meta counts `steps` holds a batch for each of them: every step's losses are compared,
and after the last one parameters, targets and Adam's moments.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qamx._types import Batch
from qamx.agents import (
    BAM,
    CGQL,
    CGQLMSE,
    DAC,
    DSRL,
    FAWAC,
    FBRAC,
    FQL,
    IFQL,
    QAM,
    QAMFQL,
    QSM,
    RLPD,
    RQL,
    TRQAM,
    CGQLLinex,
    FEdit,
    Parts,
    QAMEdit,
    ReBRAC,
    adam,
    create_state,
    update,
)
from qamx.flow import Integrator
from qamx.nn import DeterministicActor, LayerNorm, Networks
from qamx.rl import Backup, Delayed, Fixed, trainable
from qamx.schedules.inverse_temperature import Constant

FOLDER = Path(os.environ.get("QAMX_GOLDEN") or Path(__file__).parents[1] / "golden").expanduser()
FILES = sorted(FOLDER.glob("*.npz"))


# --- the noise of the files: a constant of the drawn shape, or of shape and step ---


def _squeezed(shape):
    return tuple(n for n in shape if n != 1)


def _draws(stream, shape, *step):
    return np.random.default_rng([stream, *_squeezed(shape), *step])


def _normal(key, shape=(), dtype=jnp.float32):
    draws = _draws(1, shape).standard_normal(_squeezed(shape))
    return jnp.asarray(draws.reshape(shape), jnp.float32)


def _uniform(key, shape=(), dtype=jnp.float32, minval=0.0, maxval=1.0):
    draws = _draws(2, shape).random(_squeezed(shape)).reshape(shape)
    return jnp.asarray(minval + (maxval - minval) * draws, jnp.float32)


def _randint(key, shape, minval, maxval, dtype=jnp.int32):
    draws = _draws(3, shape).random(_squeezed(shape)).reshape(shape)
    return jnp.asarray(np.floor(minval + (maxval - minval) * draws), jnp.int32)


class StepNoise:
    """Noise of `steps` updates: every key derived from a step's is that key again, so that the
    compiled update reads the step off it."""

    def __init__(self, steps):
        self._steps = range(steps)

    def split(self, key, num=2):
        return jnp.broadcast_to(key, (num, *key.shape))

    def normal(self, key, shape=(), dtype=jnp.float32):
        rows = [_draws(1, shape, s).standard_normal(_squeezed(shape)) for s in self._steps]
        return self._row(key, rows, shape)

    def uniform(self, key, shape=(), dtype=jnp.float32):
        rows = [_draws(2, shape, s).random(_squeezed(shape)) for s in self._steps]
        return self._row(key, rows, shape)

    def _row(self, key, rows, shape):
        table = jnp.asarray(np.stack(rows).reshape(len(rows), *shape), jnp.float32)
        return table[jax.random.key_data(key)[-1]]


# --- from a file to an agent ---


class Golden:
    """One file: its settings, and its arrays by section and network."""

    def __init__(self, path):
        self.arrays = dict(np.load(path))
        meta = json.loads(bytes(self.arrays.pop("meta")))
        self.method = meta["method"]
        self.dims = meta["dims"]
        self.steps = meta.get("steps", 1)
        config = {**self.dims["cfg"], **meta.get("config", {}), **meta["overrides"]}
        self.config: dict[str, Any] = {"delayed": "actor"} | config

    def network(self, section, name):
        """The arrays of one network, by the path below it (wrapper names dropped)."""
        prefix = f"{section}/modules_{name}/"
        found = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
        # Only networks of several MLPs need the MLP's name to tell their layers apart.
        found = {path: value for path, value in found.items() if "log_std_net" not in path}
        single = set() if any("MLP_1" in path for path in found) else {"MLP_0"}
        wrappers = {"value_net", "mlp", "actor_net"} | single
        return {
            "/".join(part for part in path.split("/") if part not in wrappers): value
            for path, value in found.items()
        }

    def batch(self, step=None):
        arrays = {k[6:]: v for k, v in self.arrays.items() if k.startswith("batch/")}
        data = {k: jnp.asarray(v if step is None else v[step]) for k, v in arrays.items()}
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
            critic_layer_norm=config.get("value_layer_norm", True),
        )
        backup = Backup(config["discount"], dims["horizon"], config["rho"])
        return Parts(networks, backup, Integrator(config.get("flow_steps", 1)), config["tau"])


# The builder of each method, and the keys of the file's configuration that are its arguments.
TAU, BC = {"inverse_temperature": "inv_temp"}, {"bc_weight": "alpha"}
GUIDANCE = TAU | {"guidance_scale": "guidance_coef"}
NOISY = GUIDANCE | {"noisy_critic_weight": "noisy_coef"}
EDIT = {"edit_scale": "edit_scale", "target_entropy_scale": "edit_target_entropy_multiplier"}
ENTROPY = {"target_entropy_scale": "target_entropy_multiplier"}
DIFFUSION = BC | {"diffusion_steps": "diffusion_steps"}
BUILDERS = {
    "qam": (QAM, TAU),
    "qam_fql": (QAMFQL, TAU | {"distill_weight": "fql_alpha"}),
    "qam_edit": (QAMEdit, TAU | EDIT),
    "trqam": (TRQAM, {"kl_budget": "kl_budget", "kl_scale": "lam_scale"}),
    "bam": (BAM, TAU),
    "fbrac": (FBRAC, BC),
    "fql": (FQL, BC),
    "fedit": (FEdit, EDIT),
    "fawac": (partial(FAWAC, value_target="critic"), TAU),
    "dsrl": (DSRL, {"noise_scale": "noise_scale"} | ENTROPY),
    "ifql": (IFQL, {"expectile": "kappa", "best_of_n": "num_samples"}),
    "cgql": (CGQL, GUIDANCE),
    "cgql_mse": (CGQLMSE, NOISY),
    "cgql_linex": (CGQLLinex, NOISY),
    "qsm": (partial(QSM, sampler="clean"), TAU | DIFFUSION),
    "dac": (DAC, DIFFUSION),
    "rebrac": (
        ReBRAC,
        {
            "bc_weight": "alpha_actor",
            "actor_noise": "actor_noise",
            "policy_delay": "actor_freq",
            "delayed": "delayed",
        },
    ),
    "rlpd": (RLPD, {"bc_weight": "bc_alpha"} | ENTROPY),
    "rql": (RQL, BC | {"expectile": "expectile"}),
}


def _build(golden):
    make, keys = BUILDERS[golden.method]
    values = {name: golden.config[key] for name, key in keys.items()}
    if "inverse_temperature" in values and make in (QAM, QAMFQL, QAMEdit):
        values["inverse_temperature"] = Constant(values["inverse_temperature"])
    if make is RQL:
        values["actor_target_rate"] = 1.0 - golden.config["ema"]
    agent = make(golden.parts(), **values, key=jax.random.key(0))
    if golden.method != "trqam":
        return agent
    return eqx.tree_at(
        lambda a: (a.policy.inverse_temperature.price, a.policy.inverse_temperature.average),
        agent,
        tuple(Fixed(jnp.asarray(golden.arrays[f"state/{name}"])) for name in ("lam", "kl_ema")),
    )


# Each network of a file and where it stands in the agent.
CRITIC = {
    "critic": lambda agent: agent.critic.online.members,
    "target_critic": lambda agent: agent.critic.target.members,
}
FLOW_TIME_CRITIC = {
    "critic": lambda agent: agent.critic.online.ensemble.members,
    "target_critic": lambda agent: agent.critic.target.ensemble.members,
}


def _tuned(agent):
    """The flow of a QAM-family policy that is fine-tuned."""
    policy = agent.policy
    return policy if hasattr(policy, "velocity") else policy.base


FLOWS = {
    "actor_slow": lambda agent: _tuned(agent).base.pair.online.velocity.mlp,
    "target_actor_slow": lambda agent: _tuned(agent).base.pair.target.velocity.mlp,
    "actor_fast": lambda agent: _tuned(agent).velocity.mlp,
}
VALUE = {"value": lambda agent: agent.critic.value}


def _base_flow(name):
    return {name: lambda agent: agent.policy.base.velocity.mlp}


def _slow_flow(name):
    return {
        name: lambda agent: agent.policy.base.pair.online.velocity.mlp,
        f"target_{name}": lambda agent: agent.policy.base.pair.target.velocity.mlp,
    }


def _actor(name):
    return {name: lambda agent: agent.policy.actor}


def _undelayed(actor):
    return actor.value if isinstance(actor, Delayed) else actor


def _alpha(name):
    return {name: lambda agent: agent.policy.entropy.temperature}


GUIDED = FLOW_TIME_CRITIC | _slow_flow("actor")
PREDICTOR = CRITIC | {"actor": lambda agent: agent.policy.predictor}
PLACES = {
    "qam": CRITIC | FLOWS,
    "trqam": CRITIC | FLOWS,
    "bam": CRITIC | FLOWS,
    "qam_fql": CRITIC | FLOWS | {"one_step_actor": lambda agent: agent.policy.network},
    "qam_edit": CRITIC | FLOWS | _actor("edit_actor") | _alpha("edit_alpha"),
    "fbrac": CRITIC | _base_flow("actor_flow"),
    "fql": CRITIC
    | _base_flow("actor_bc_flow")
    | {"actor_onestep_flow": lambda agent: agent.policy.network},
    "fedit": CRITIC | _base_flow("actor_bc_flow") | _actor("edit_actor") | _alpha("alpha"),
    "fawac": CRITIC | VALUE | _base_flow("actor"),
    "dsrl": CRITIC
    | _slow_flow("actor_bc_flow")
    | {"z_critic": lambda agent: agent.policy.critic.members}
    | _actor("actor")
    | _alpha("alpha"),
    "ifql": CRITIC | VALUE | _base_flow("actor_flow"),
    "cgql": GUIDED,
    "cgql_mse": GUIDED,
    "cgql_linex": GUIDED,
    "qsm": PREDICTOR,
    "dac": PREDICTOR,
    "rebrac": CRITIC
    | {
        "actor": lambda agent: _undelayed(agent.policy.actor.online),
        "target_actor": lambda agent: _undelayed(agent.policy.actor.target),
    },
    "rlpd": CRITIC | _actor("actor") | _alpha("alpha"),
    "rql": {
        "value": lambda agent: agent.critic.online.ensemble.members,
        "target_value": lambda agent: agent.critic.target.ensemble.members,
        "actor": lambda agent: agent.policy.base.pair.online.velocity.mlp,
        "target_actor": lambda agent: agent.policy.base.pair.target.velocity.mlp,
    },
}


def _slots(module):
    """The arrays of a network by the names that the files use."""
    if hasattr(module, "log_value"):
        return {"log_value": lambda m: m.log_value}
    if hasattr(module, "features"):
        slots = {"FourierFeatures_0/kernel": lambda m: m.features.frequencies}
        for name in ("embedding", "mlp"):
            inner = _slots(getattr(module, name))
            wrapper = {"embedding": "MLP_0", "mlp": "MLP_1"}[name]
            slots |= {
                f"{wrapper}/{slot}": lambda m, name=name, get=get: get(getattr(m, name))
                for slot, get in inner.items()
            }
        return slots
    if hasattr(module, "log_std"):
        slots = _trunk_slots(module.trunk, lambda m: m.trunk)
        slots |= _linear_slots("OutputDenseMean", lambda m: m.mean)
        return slots | _linear_slots("OutputDenseLogStd", lambda m: m.log_std)
    if isinstance(module, DeterministicActor):
        return _trunk_slots(module.trunk, lambda m: m.trunk) | _linear_slots(
            "mean_net", lambda m: m.mean
        )
    head = f"Dense_{len(module.trunk.layers)}"
    return _trunk_slots(module.trunk, lambda m: m.trunk) | _linear_slots(head, lambda m: m.head)


def _slots_of(golden, name, module):
    """The same; RQL's files name the head of the actor's velocity as that of a Gaussian."""
    if golden.method != "rql" or "actor" not in name:
        return _slots(module)
    names = {f"Dense_{len(module.trunk.layers)}": "mean_net"}
    return {
        "/".join(str(names.get(part, part)) for part in str(slot).split("/")): get
        for slot, get in _slots(module).items()
    }


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
        slots = _slots_of(golden, name, place(agent))
        assert slots.keys() == values.keys(), name
        for slot, get in slots.items():
            value = jnp.asarray(values[slot])
            assert get(place(agent)).shape == value.shape, f"{name}/{slot}"
            agent = eqx.tree_at(lambda a, get=get, place=place: get(place(a)), agent, value)
    return agent


def _agent(golden):
    known = ", ".join(BUILDERS)
    assert golden.method in BUILDERS, f"no method {golden.method!r} here; known: {known}"
    return _load(golden, _build(golden))


# --- the comparisons ---


# What a file calls a loss, and the metrics that add up to it: names, each with its weight.
def _sum(*names):
    return lambda outcome: sum(outcome.metrics[name] for name in names)


def _negative(name):
    return lambda outcome: -outcome.metrics[name]


def _weighed(record, weight):
    """The weighed cloning term and the critic's term of a record with both."""
    return lambda outcome: (
        outcome.golden.config[weight] * outcome.metrics[f"{record}.cloning_loss"]
        + outcome.metrics[f"{record}.q_loss"]
    )


TERMS = {
    "loss/total": _sum("UpdateMetrics.loss"),
    "info/total_loss": _sum("UpdateMetrics.loss"),
    "info/critic/critic_loss": _sum("CriticMetrics.loss"),
    "info/critic/q_mean": _sum("CriticMetrics.q_mean"),
    "info/critic/q_min": _sum("CriticMetrics.q_min"),
    "info/critic/q_max": _sum("CriticMetrics.q_max"),
    "info/critic/q": _sum("CriticMetrics.q_mean"),
    "info/actor/flow_loss": _sum("BehaviourFlowMetrics.loss"),
    "info/actor/bc_flow_loss": _sum("BehaviourFlowMetrics.loss"),
    "info/actor/fast_loss": _sum("AdjointMatchingMetrics.loss"),
    "info/actor/adj_loss": _sum("AdjointMatchingMetrics.loss"),
    "info/actor/adj_mean": _sum("AdjointMatchingMetrics.boundary_mean"),
    "info/actor/adj_std": _sum("AdjointMatchingMetrics.boundary_std"),
    "info/actor/adj_max": _sum("AdjointMatchingMetrics.boundary_max"),
    "info/actor/path_kl": _sum("AdjointMatchingMetrics.path_kl"),
    "info/actor/fql_distill_loss": _sum("OneStepMetrics.distill_loss"),
    "info/actor/fql_q_loss": _sum("OneStepMetrics.q_loss"),
    "info/actor/distill_loss": _sum("OneStepMetrics.distill_loss"),
    "info/actor/edit_q_loss": _sum("EditMetrics.q_loss"),
    "info/actor/edit_entropy_loss": _sum("EditMetrics.entropy_loss"),
    "info/actor/edit_alpha_loss": _sum("EditMetrics.temperature_loss"),
    "info/actor/edit_entropy": _sum("EditMetrics.entropy"),
    "info/actor/edit_alpha": _sum("EditMetrics.temperature"),
    "info/actor/bam_loss": _sum("BackpropagatedFlowMetrics.loss"),
    "info/actor/bc_loss": _sum("BackpropagatedFlowMetrics.control_cost"),
    "info/critic/noisy_critic_loss": _sum("NoisyCriticMetrics.loss"),
    "info/critic/exp_bias": lambda outcome: outcome.exponential_bias(),
    "info/critic/value_loss": _sum("StateValueMetrics.loss"),
    "info/value/value_loss": _sum("StateValueMetrics.loss"),
    "info/value/v_mean": _sum("StateValueMetrics.v_mean"),
    "info/value/v_min": _sum("StateValueMetrics.v_min"),
    "info/value/v_max": _sum("StateValueMetrics.v_max"),
}

# The same name means another thing in these files.
OWN_TERMS = {
    "fbrac": {
        "info/actor/actor_loss": lambda outcome: (
            outcome.metrics["BehaviourFlowMetrics.loss"]
            + outcome.metrics["FlowActorMetrics.q_loss"] / outcome.golden.config["alpha"]
        )
    },
    "fql": {
        "info/actor/actor_loss": lambda outcome: (
            outcome.metrics["UpdateMetrics.loss"] - outcome.metrics["CriticMetrics.loss"]
        )
    },
    "fedit": {
        "info/actor/actor_loss": _sum(
            "BehaviourFlowMetrics.loss",
            "EditMetrics.q_loss",
            "EditMetrics.entropy_loss",
            "EditMetrics.temperature_loss",
        )
    },
    "fawac": {"info/actor/actor_loss": _sum("BehaviourFlowMetrics.loss")},
    "ifql": {
        "info/actor/actor_loss": _sum("BehaviourFlowMetrics.loss"),
        # This file's q is what the critics regress to.
        "info/critic/q_mean": lambda outcome: outcome.backup().mean(),
        "info/critic/q_min": lambda outcome: outcome.backup().min(),
        "info/critic/q_max": lambda outcome: outcome.backup().max(),
    },
    "dsrl": {
        "info/actor/q": _negative("LatentMetrics.q_loss"),
        "info/actor/alpha": _sum("LatentMetrics.temperature"),
        "info/actor/alpha_loss": _sum("LatentMetrics.temperature_loss"),
        "info/actor/entropy": _sum("LatentMetrics.entropy"),
        "info/actor/actor_loss": _sum("LatentMetrics.q_loss", "LatentMetrics.entropy_loss"),
        "info/actor/total_loss": _sum(
            "BehaviourFlowMetrics.loss",
            "LatentMetrics.q_loss",
            "LatentMetrics.entropy_loss",
            "LatentMetrics.temperature_loss",
        ),
        "info/actor/action_std": lambda outcome: outcome.deviation(),
        "info/critic/distill_loss": _sum("LatentMetrics.distill_loss"),
        "info/critic/total_loss": _sum("CriticMetrics.loss", "LatentMetrics.distill_loss"),
    },
    "qsm": {"info/actor/actor_loss": _sum("DiffusionMetrics.critic_loss")},
    "dac": {"info/actor/actor_loss": _sum("DiffusionMetrics.critic_loss")},
    "rebrac": {
        "info/actor/actor_loss": _sum("DeterministicPolicyMetrics.q_loss"),
        "info/actor/mse": _sum("DeterministicPolicyMetrics.cloning_loss"),
        "info/actor/bc_loss": lambda outcome: (
            outcome.golden.config["alpha_actor"]
            * outcome.metrics["DeterministicPolicyMetrics.cloning_loss"]
        ),
        "info/actor/total_loss": _weighed("DeterministicPolicyMetrics", "alpha_actor"),
        "info/actor/action_std": lambda outcome: 1.0,  # the release's law of unit deviation
    },
    "rlpd": {
        "info/actor/q": _negative("GaussianPolicyMetrics.q_loss"),
        "info/actor/alpha": _sum("GaussianPolicyMetrics.temperature"),
        "info/actor/alpha_loss": _sum("GaussianPolicyMetrics.temperature_loss"),
        "info/actor/entropy": _sum("GaussianPolicyMetrics.entropy"),
        "info/actor/actor_loss": _sum(
            "GaussianPolicyMetrics.q_loss", "GaussianPolicyMetrics.entropy_loss"
        ),
        "info/actor/bc_loss": lambda outcome: (
            outcome.golden.config["bc_alpha"]
            * outcome.metrics["GaussianPolicyMetrics.cloning_loss"]
        ),
        "info/actor/total_loss": lambda outcome: (
            outcome.metrics["UpdateMetrics.loss"] - outcome.metrics["CriticMetrics.loss"]
        ),
    },
    "rql": {
        "info/actor_loss": _sum("ReversalMetrics.q_loss"),
        "info/bc_loss": _sum("ReversalMetrics.cloning_loss"),
        "info/critic_loss": _sum("CriticMetrics.loss"),
        "info/q": _sum("CriticMetrics.q_mean"),
        "info/q_mean": _sum("CriticMetrics.q_mean"),
        "info/q_min": _sum("CriticMetrics.q_min"),
        "info/q_max": _sum("CriticMetrics.q_max"),
        "info/q_pe_mean": _negative("ReversalMetrics.q_loss"),
        "info/q_pe_min": lambda outcome: outcome.step_values().min(),
        "info/q_pe_max": lambda outcome: outcome.step_values().max(),
    },
}


def _dropped(golden):
    """What dropped sequences add to a file's losses: the release of QSM and DAC counts the actor
    losses of each as the constant 1 where the paper multiplies by 0. Gradients are the same."""
    if golden.method not in ("qsm", "dac"):
        return {}
    share = 1.0 - golden.batch().valid.mean()
    whole = (golden.config["alpha"] + 1.0) * share
    return {"info/actor/actor_loss": share, "loss/total": whole}


def _optimiser(golden):
    clipped = golden.config.get("clip_grad", golden.method in ("bam", "qsm", "dac"))
    clip = 1.0 if clipped else None
    return adam(golden.config["lr"], clip)


def _close(actual, expected, tolerance, what):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    assert np.all(np.isfinite(actual)), what
    scale = max(np.abs(expected).max(initial=0.0), 1e-12)
    error = np.abs(actual - expected).max(initial=0.0) / scale
    assert error <= tolerance, f"{what}: off by {error:.2e} of the largest entry"


def _named(metrics):
    return {
        f"{type(record).__name__}.{name}": value
        for record in metrics
        for name, value in vars(record).items()
    }


class Outcome:
    """What our update makes of a file: metrics, gradients, the agent after, a sampled action."""

    def __init__(self, golden):
        self.golden = golden
        self.before: Any = _agent(golden)  # each method has other parts
        optimiser = _optimiser(golden)
        state = create_state(self.before, optimiser, jax.random.key(0))
        observation = jnp.asarray(golden.arrays["sample/observation"])[None]

        # A new function each time, so that no trace with other noise is found again.
        @eqx.filter_jit
        def outcome(state, batch):
            action = state.agent.act_in_evaluation(observation, jax.random.key(0))[0]
            return update(state, batch, optimiser), _gradients(state.agent, batch), action

        (state, metrics), self.gradients, self.action = outcome(state, golden.batch())
        self.after = state.agent
        self.metrics = _named(metrics)

    # Figures of the files that are no metrics of ours.

    def exponential_bias(self):
        """mean(exp(tau Q_t) - exp(tau Qbar)) at the noised actions."""
        batch, critic, tau = self.golden.batch(), self.before.critic, self.golden.config["inv_temp"]
        noise = jax.random.normal(jax.random.key(0), batch.actions.shape)
        t = jax.random.uniform(jax.random.key(0), batch.valid.shape)
        x_t = (1 - t[:, None]) * noise + t[:, None] * batch.actions
        noisy = critic.online.at(batch.observations, x_t, t)
        clean = critic.target(batch.observations, batch.actions)
        return jnp.mean(jnp.exp(tau * noisy) - jnp.exp(tau * clean))

    def backup(self):
        """What the critics of implicit Q-learning regress to."""
        batch, critic = self.golden.batch(), self.before.critic
        return critic.backup.target(batch, critic.value(batch.next_observations)[None, :, 0])

    def deviation(self):
        """The mean standard deviation of the latent actor, before its tanh."""
        law = self.before.policy.actor(self.golden.batch().observations)
        return jnp.mean(jnp.exp(law.log_std))

    def step_values(self):
        """The critics' mean values of where a step of the flow leads."""
        batch, policy = self.golden.batch(), self.before.policy
        noise, t = policy.base.behaviour.draw_points(batch, jax.random.key(0))
        x_t = (1 - t[:, None]) * noise + t[:, None] * batch.actions
        step = jnp.minimum(1 / policy.base.integrator.steps, 1 - t)
        x_next = x_t + step[:, None] * policy.base.clone(batch.observations, x_t, t)
        return self.before.critic.online.at(batch.observations, x_next, t + step).mean(axis=0)


def _gradients(agent, batch):
    trained, rest = eqx.partition(agent, trainable(agent))

    def total(trained):
        return eqx.combine(trained, rest).loss(batch, jax.random.key(0))[0]

    return eqx.filter_grad(total)(trained)


class Course:
    """What our updates make of a file of several steps: the losses of each, the state after all."""

    def __init__(self, golden):
        self.golden = golden
        optimiser = _optimiser(golden)
        state = create_state(_agent(golden), optimiser, jax.random.key(0))
        step = eqx.filter_jit(lambda s, b: update(s, b, optimiser))
        records = []
        for number in range(golden.steps):
            state = eqx.tree_at(lambda s: s.key, state, jax.random.key(number))
            state, metrics = step(state, golden.batch(number))
            records.append(_named(metrics))
        self.state: Any = state
        self.metrics = {
            name: np.asarray([record[name] for record in records]) for name in records[0]
        }

    def adam(self, place):
        """The state of the Adam that trains a network."""
        states = jax.tree.leaves(self.state.optimiser_state, is_leaf=_is_adam)
        return next(s for s in states if _is_adam(s) and jax.tree.leaves(place(s.mu)))


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


def _steps_of(path):
    with np.load(path) as file:
        return json.loads(bytes(file["meta"])).get("steps", 1)


ONE_STEP = [path for path in FILES if _steps_of(path) == 1]
SEVERAL_STEPS = [path for path in FILES if _steps_of(path) > 1]


@pytest.fixture(scope="module", params=ONE_STEP, ids=lambda path: path.stem)
def outcome(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "normal", _normal)
        patch.setattr(jax.random, "uniform", _uniform)
        patch.setattr(jax.random, "randint", _randint)
        yield Outcome(Golden(request.param))


@pytest.fixture(scope="module", params=SEVERAL_STEPS, ids=lambda path: path.stem)
def course(request):
    golden = Golden(request.param)
    noise = StepNoise(golden.steps)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("normal", "uniform", "split"):
            patch.setattr(jax.random, name, getattr(noise, name))
        yield Course(golden)


def test_files_are_found():
    assert FILES, f"no golden vectors in {FOLDER}"


def test_losses(outcome):
    golden = outcome.golden
    named = {k for k in golden.arrays if k.startswith(("loss/", "info/"))}
    terms = TERMS | OWN_TERMS.get(golden.method, {})
    assert named <= terms.keys()
    dropped = _dropped(golden)
    for term in named:
        _close(terms[term](outcome) + dropped.get(term, 0.0), golden.arrays[term], 1e-4, term)


def test_gradients(outcome):
    golden = outcome.golden
    for name, place in PLACES[golden.method].items():
        expected = golden.network("grads", name)
        for slot, get in _slots_of(golden, name, place(outcome.before)).items():
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
    golden = outcome.golden
    for name, place in PLACES[golden.method].items():
        before = golden.network("params", name)
        after = golden.network("updated", name.removeprefix("target_"))
        for slot, get in _slots_of(golden, name, place(outcome.before)).items():
            step = after[slot] - before[slot]
            if name.startswith("target_"):
                # The specification's order: targets average the parameters of after the step.
                step = _rate(golden, name) * step
            moved = np.asarray(get(place(outcome.after))) - before[slot]
            _close_step(moved, step, golden.config["lr"], f"{name}/{slot}")


def _rate(golden, name):
    moving_average = golden.method == "rql" and name == "target_actor"
    return 1.0 - golden.config["ema"] if moving_average else golden.config["tau"]


def _close_step(moved, expected, lr, what):
    # The first Adam step is lr x the sign of the gradient wherever the gradient is far from zero,
    # and parameters are float32: compare steps to a hundredth of a step and float32's spacing.
    assert np.all(np.isfinite(moved)), what
    error = np.abs(moved - expected).max(initial=0.0)
    assert error <= 1e-2 * lr + 4e-7, f"{what}: the step is off by {error:.2e}"


def test_sampled_action(outcome):
    expected = outcome.golden.arrays["sample/action"].reshape(-1)
    _close(outcome.action, expected, 1e-4, "sample/action")


def test_dual_state(outcome):
    """TRQAM: the dual variable and the moving average of the path KL, before and after."""
    arrays, tau = outcome.golden.arrays, outcome.golden.method == "trqam"
    assert tau == ("state/lam" in arrays)
    for when, agent in (("state", outcome.before), ("updated_state", outcome.after)):
        if tau:
            schedule = agent.policy.inverse_temperature
            _close(schedule.price.value, arrays[f"{when}/lam"], 1e-5, "lambda")
            _close(schedule.average.value, arrays[f"{when}/kl_ema"], 1e-5, "moving average")


# --- several steps ---

# The files' numbers were computed in float64 from these float32 weights, batches and noise, so
# what is left is our own rounding: 1.4e-5 at most, which another order of sums may make a few
# times larger. Targets average the parameters of after the step, as the specification says.
# Targets a step late, clocks a step off, another epsilon or decay of Adam, a clip 0.1% higher:
# each is off by 1e-3 and more somewhere.
ROUNDING = 1e-4


def test_losses_of_every_step(course):
    golden = course.golden
    named = {k for k in golden.arrays if k.startswith(("loss/", "info/"))}
    terms = TERMS | OWN_TERMS.get(golden.method, {})
    assert named <= terms.keys()
    for term in named:
        _close(terms[term](course), golden.arrays[term], ROUNDING, term)


def test_parameters_and_targets_after_all_steps(course):
    golden = course.golden
    for name, place in PLACES[golden.method].items():
        before, after = golden.network("params", name), golden.network("updated", name)
        for slot, get in _slots_of(golden, name, place(course.state.agent)).items():
            moved = np.asarray(get(place(course.state.agent))) - before[slot]
            _close(moved, after[slot] - before[slot], ROUNDING, f"{name}/{slot}")


def test_moments_after_all_steps(course):
    golden = course.golden
    for name, place in PLACES[golden.method].items():
        if name.startswith("target_"):
            continue
        adam_state = course.adam(place)
        assert adam_state.count == golden.arrays[f"count/modules_{name}"], name
        for section, moment in (("mu", adam_state.mu), ("nu", adam_state.nu)):
            expected = golden.network(section, name)
            for slot, get in _slots_of(golden, name, place(course.state.agent)).items():
                what = f"{section} of {name}/{slot}"
                _close(get(place(moment)), expected[slot], ROUNDING, what)

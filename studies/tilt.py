"""How near every method's policy comes to pi_b exp(beta Q), where that law is known.

python -m studies.tilt     trains and samples all methods, and writes studies/tilt.json
python -m studies.report   draws the figure and writes the tables of the documentation from it
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.flow import Integrator, sample_ode
from qamx.nn import Networks, VelocityField
from qamx.policies import (
    BehaviourFlow,
    CriticGuidedDiffusion,
    VariancePreserving,
    exact_jacobian,
    identity_jacobian,
    posterior_step,
)
from qamx.policies.flow_actor import MAX_WEIGHT
from qamx.rl import trainable
from studies import guided, others, tempered
from studies.distance import Sample, energy_distance
from studies.mixture import MixtureVelocity
from studies.noised import ExactNoise, NoisedMixture
from studies.problem import (
    BASE,
    BETAS,
    DIM,
    KnownVelocity,
    draw,
    known_critic,
    mean_q,
    quadratic_critic,
    tilted,
)
from studies.training import Settings, Variant, samples, train

SAMPLES, SEED = 4096, 0
RESULTS = Path(__file__).with_name("tilt.json")
NETWORKS = Networks(1, DIM, (64, 64, 64), (64, 64, 64), ensemble_size=2)


def cloned_network(key: Key) -> VelocityField:
    """A network trained by flow matching on the behaviour, from which networks are improved."""
    build_key, train_key = jax.random.split(key)
    flow = BehaviourFlow(NETWORKS.velocity(build_key), Integrator(10), DIM)
    settings = Settings(3000, 2e-3, 512)
    return train(flow, trainable(flow), lambda _: known_critic(), settings, train_key).velocity


def variants() -> Iterator[Variant]:
    """Every method, in each of the forms that the study compares."""
    exact, clone = MixtureVelocity(BASE), cloned_network(jax.random.key(1))
    yield from (tempered.qam(f"family, T = {t}", exact, t, Settings(800, 2e-2)) for t in (10, 50))
    yield tempered.qam("network, T = 10", clone, 10, Settings(1200, 1e-3))
    yield tempered.trqam(Settings(2500, 1e-2))
    yield from (tempered.bam(f"family, T = {t}", exact, t, Settings(800, 2e-2)) for t in (10, 50))
    yield tempered.bam("network, T = 10", clone, 10, Settings(1200, 1e-3))
    for proposals in (1, 4, 32):
        yield tempered.preflow(NETWORKS, 0.1, proposals, Settings(2000, 3e-3, 512))
    yield tempered.fawac("family, T = 10", exact, 10, Settings(1000, 1e-2, 1024))
    yield tempered.fawac("family, T = 50", exact, 50, Settings(1000, 1e-2, 1024))
    for steps in (10, 200):
        yield guided.cgql("cgql", guided.clean, 0.1, steps)
        yield guided.cgql("cgql_mse", guided.mean, 0.1, steps)
        yield guided.cgql("cgql_linex", guided.soft_maximum, 0.1, steps)
    yield guided.exact_guidance(0.001, 200)
    yield guided.qsm(NETWORKS, Settings(2000, 2e-3, 512))
    yield from (guided.qsm_minimiser(10.0, steps) for steps in (10, 200))
    yield guided.dac(NETWORKS, Settings(2000, 2e-3, 512))
    yield from (guided.dac_minimiser(steps) for steps in (10, 200))
    yield tempered.fbrac(clone, Settings(1000, 1e-3))
    yield others.fql(NETWORKS, Settings(1500, 1e-3))
    yield others.qam_fql(NETWORKS, Settings(1500, 1e-3))
    yield others.fedit(NETWORKS, Settings(1000, 1e-3))
    yield others.qam_edit(NETWORKS, Settings(1500, 1e-3))
    yield others.trqam_edit(NETWORKS, 0.1, Settings(1500, 3e-3))
    yield others.dsrl(NETWORKS, Settings(1500, 1e-3))
    yield others.ifql()
    yield others.qgf("exact flow, plain", identity_jacobian)
    yield others.qgf("exact flow, jacobian", exact_jacobian)
    yield others.rebrac(NETWORKS, 0.2, Settings(1000, 1e-3))
    yield others.rlpd(NETWORKS, Settings(1500, 1e-3))
    yield others.rql(clone, Settings(1000, 1e-3))


def flow_samples(beta: float, steps: int, key: Key) -> Float[Array, "n dim"]:
    """What the exact velocity of a tilted law samples in `steps` Euler steps."""
    noise = jax.random.normal(key, (SAMPLES, DIM))
    velocity = KnownVelocity(tilted(beta))
    return sample_ode(velocity, jnp.zeros((SAMPLES, 1)), noise, Integrator(steps))


def diffusion_samples(beta: float, steps: int, key: Key) -> Float[Array, "n dim"]:
    """What the exact noise predictor of a tilted law samples in `steps` reverse steps."""
    schedule = VariancePreserving(steps)
    noise: Any = ExactNoise(NoisedMixture(tilted(beta)), schedule, *guided.q_arrays())
    policy = CriticGuidedDiffusion(noise, schedule, posterior_step, 1.0, DIM)
    return policy.sample(known_critic(), jnp.zeros((SAMPLES, 1)), key)


def cut_samples(beta: float, key: Key) -> Float[Array, "n dim"]:
    """The behaviour weighed by min(exp(beta (Q - V)), 100), drawn from many of its samples."""
    draw_key, choice_key = jax.random.split(key)
    actions = draw(BASE, draw_key, 100 * SAMPLES)
    values = jnp.mean(quadratic_critic()(jnp.zeros((1, 1)), actions), axis=0) - 0.5
    weights = jnp.minimum(jnp.exp(beta * (values - mean_q(BASE))), MAX_WEIGHT)
    shares = weights / jnp.sum(weights)
    return actions[jax.random.choice(choice_key, len(actions), (SAMPLES,), p=shares)]


REFERENCES: dict[str, Callable[[float, Key], Float[Array, "n dim"]]] = {
    "behaviour": lambda beta, key: draw(BASE, key, SAMPLES),
    "second sample": lambda beta, key: draw(tilted(beta), key, SAMPLES),
    "exact velocity, T = 10": lambda beta, key: flow_samples(beta, 10, key),
    "exact velocity, T = 50": lambda beta, key: flow_samples(beta, 50, key),
    "exact noise predictor, N = 10": lambda beta, key: diffusion_samples(beta, 10, key),
    "exact noise predictor, N = 200": lambda beta, key: diffusion_samples(beta, 200, key),
    "weights cut at 100": cut_samples,
}


def references(targets: list[Sample], key: Key) -> dict[str, list[float]]:
    """The distance to each tilted law of what a method could be at best, and of the behaviour."""
    return {
        name: [
            round(energy_distance(Sample(sample(beta, key)), target), 4)
            for beta, target in zip(BETAS, targets, strict=True)
        ]
        for name, sample in REFERENCES.items()
    }


def measure(variant: Variant, targets: list[Sample], key: Key) -> dict:
    """The distance of every run of a variant to every tilted law."""
    start = time.perf_counter()
    laws = [Sample(points) for points in samples(variant, key, SAMPLES)]
    rows = [
        {
            "strength": run.label,
            "beta": run.beta,
            "distances": [round(energy_distance(law, target), 4) for target in targets],
        }
        for run, law in zip(variant.runs, laws, strict=True)
    ]
    seconds = round(time.perf_counter() - start, 1)
    return {"method": variant.method, "form": variant.form, "seconds": seconds, "runs": rows}


def main() -> None:
    """Runs the study."""
    target_key, key = jax.random.split(jax.random.key(SEED))
    targets = [Sample(draw(tilted(beta), target_key, SAMPLES)) for beta in BETAS]
    results = {"betas": BETAS, "references": references(targets, key), "variants": []}
    for variant in variants():
        row = measure(variant, targets, key)
        print(f"{row['method']:12} {row['form']:40} {row['seconds']:6.1f} s", flush=True)
        results["variants"].append(row)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

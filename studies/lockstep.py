"""The release's update and ours, step by step: same weights, batches and noise.

    PYTHON studies/lockstep.py RELEASE --data FOLDER --methods qam fql --updates 200 [--double]

`RELEASE` is a clone of https://github.com/ColinQiyangLi/qam, `PYTHON` an environment with what it
and qamx need, `FOLDER` holds the quickstart's data set. Printed for some updates: the largest
difference of parameters, targets and Adam's moments, relative to the largest entry of their array.
The release averages targets with the parameters of before the step; here it does so with those of
after it, as the specification says (`--lag` leaves it as it is).
"""

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
HORIZON, BATCH, LEARNING_RATE = 5, 128, 1e-3
SHARED = {
    "batch_size": BATCH,
    "num_qs": 2,
    "discount": 0.99,
    "rho": 0.5,
    "tau": 0.02,
    "actor_hidden_dims": (128, 128),
    "value_hidden_dims": (128, 128),
    "flow_steps": 5,
    "lr": LEARNING_RATE,
}
METHODS: dict[str, dict[str, Any]] = {
    "qam": {"inv_temp": 10.0},
    "qam_edit": {"inv_temp": 10.0, "edit_scale": 0.2},
    "fql": {"alpha": 10.0},
    "ifql": {"kappa": 0.9, "num_samples": 8},
    "rebrac": {"alpha_actor": 0.03, "actor_noise": 0.2},
    "rlpd": {"bc_alpha": 0.1},
}
SHOWN = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 1_000)


class Noise:
    """Normal and uniform draws that depend on shape and update alone; every key is its update's.

    **Arguments:** `updates` of draws are kept for each shape, in `dtype`.
    """

    def __init__(self, updates: int, dtype: type):
        self._updates, self._dtype = updates, dtype

    def patch(self) -> None:
        """Takes the place of `jax.random`'s functions."""
        import jax

        for name in ("normal", "uniform", "split", "fold_in"):
            setattr(jax.random, name, getattr(self, name))

    def normal(self, key: Any, shape: Any = (), dtype: Any = None) -> Any:
        """Standard normal draws."""
        import jax.numpy as jnp

        if not isinstance(shape, tuple):  # TensorFlow Probability draws [d, *batch], moves the axis
            shape = tuple(shape)
            return jnp.moveaxis(self.normal(key, shape[1:] + shape[:1]), -1, 0)
        return self._row(1, key, shape, np.random.Generator.standard_normal)

    def uniform(
        self, key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
    ) -> Any:
        """Uniform draws between two bounds."""
        draws = self._row(2, key, tuple(shape), np.random.Generator.random)
        return minval + (maxval - minval) * draws

    def split(self, key: Any, num: Any = 2) -> Any:
        """The key itself, as often as asked for."""
        import jax.numpy as jnp

        count = (num,) if isinstance(num, int) else tuple(num)
        return jnp.broadcast_to(key, count + key.shape)

    def fold_in(self, key: Any, data: Any) -> Any:
        """The key itself."""
        return key

    def _row(self, stream: int, key: Any, shape: tuple[int, ...], draw: Callable[..., Any]) -> Any:
        import jax
        import jax.numpy as jnp

        # Both programs may have axes of one entry in other places.
        squeezed = tuple(size for size in shape if size != 1)
        rows = [
            draw(np.random.default_rng([stream, *squeezed, update]), squeezed).reshape(shape)
            for update in range(self._updates)
        ]
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        update = (jax.random.key_data(key) if typed else key)[..., -1].astype(jnp.int32)
        return jnp.asarray(np.stack(rows).astype(self._dtype))[update]


def prepare(release: Path, double: bool) -> None:
    """Makes the release importable with a current JAX."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1" if double else "0"
    sys.path[:0] = [str(release), str(ROOT), str(ROOT / "tests" / "agents")]
    import jax._src.core
    import jax.interpreters.xla

    # TensorFlow Probability still looks for it where JAX had it.
    jax.interpreters.xla.pytype_aval_mappings = jax._src.core.pytype_aval_mappings  # pyright: ignore


class Release:
    """The release's agent of a method and real batches of its own sampler."""

    def __init__(self, method: str, data: Path, updates: int, dtype: type, lag: bool):
        import jax
        import jax.numpy as jnp
        import ogbench

        make = ogbench.make_env_and_datasets
        ogbench.make_env_and_datasets = functools.partial(make, dataset_dir=str(data))
        agents = importlib.import_module("agents").agents
        utils = importlib.import_module("envs.env_utils")
        name = {"qam_edit": "qam"}.get(method, method)
        train = utils.make_env_and_datasets("pointmaze-medium-navigate-singletask-task5-v0")[2]
        ogbench.make_env_and_datasets = make
        np.random.seed(0)
        self.batches = [train.sample_sequence(BATCH, HORIZON, 0.99) for _ in range(updates)]
        config = importlib.import_module(f"agents.{name}").get_config()
        config.horizon_length, config.action_chunking = HORIZON, True
        for key, value in (SHARED | METHODS[method]).items():
            config[key] = value
        example = train.sample(())
        agent = agents[name].create(3, example["observations"], example["actions"], config)
        if not lag:
            type(agent).target_update = _target_update
        parameters = jax.tree.map(lambda a: jnp.asarray(a, dtype), agent.network.params)
        moments = agent.network.tx.init(parameters)
        network = agent.network.replace(params=parameters, opt_state=moments)
        self.agent, self.method, self.dtype = agent.replace(network=network), method, dtype

    def update(self, index: int) -> None:
        """One update from the batch of that index."""
        import jax
        import jax.numpy as jnp

        batch = jax.tree.map(lambda a: jnp.asarray(a, self.dtype), self.batches[index])
        agent = self.agent.replace(rng=jnp.asarray([0, index], jnp.uint32))
        # ReBRAC's actor and targets move at every other update.
        own = {"full_update": index % 2 == 0} if self.method == "rebrac" else {}
        self.agent = agent.update(batch, **own)[0]

    def state(self) -> dict[str, Mapping[str, Any]]:
        """Parameters and Adam's moments by path."""
        moments = adam_of(self.agent.network.opt_state)
        trees = {"params": self.agent.network.params, "mu": moments.mu, "nu": moments.nu}
        return {name: flat(tree) for name, tree in trees.items()}


def _target_update(agent: Any, network: Any, module: str) -> None:
    import jax

    rate = agent.config["tau"]
    network.params[f"modules_target_{module}"] = jax.tree.map(
        lambda new, old: rate * new + (1 - rate) * old,
        network.params[f"modules_{module}"],
        agent.network.params[f"modules_target_{module}"],
    )


def flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by the paths that golden files use."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    name = "/".join
    return {
        f"params/{name(str(getattr(part, 'key', part)) for part in path)}": np.asarray(leaf)
        for path, leaf in leaves
    }


def adam_of(tree: Any) -> Any:
    """The state of Adam inside an optimiser's."""
    import jax
    import optax

    kind = optax.ScaleByAdamState
    (state,) = [
        leaf
        for leaf in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
        if isinstance(leaf, kind)
    ]
    return state


class Ours:
    """Our agent with the release's weights, placed as golden vectors are."""

    def __init__(self, release: Release):
        import equinox as eqx
        import jax
        import test_golden

        from qamx.agents import create_state, update

        self.golden, self.method, self.dtype = test_golden, release.method, release.dtype
        # The release delays the targets of ReBRAC with its actor.
        self.config = {"delayed": "targets", **release.agent.config}
        file = self.file(release.state()["params"])
        optimiser = test_golden._optimiser(file)
        self.state: Any = create_state(test_golden._agent(file), optimiser, jax.random.key(0))
        self._step = eqx.filter_jit(lambda state, batch: update(state, batch, optimiser))

    def file(self, arrays: Mapping[str, Any]) -> Any:
        """Arrays of the release as a golden file has them."""
        file = object.__new__(self.golden.Golden)
        file.arrays, file.method, file.config = dict(arrays), self.method, self.config
        file.dims = {"obs": 2, "act": 2, "horizon": HORIZON}
        return file

    def update(self, batch: Mapping[str, np.ndarray], index: int) -> None:
        """One update from the release's batch of that index."""
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        from qamx import Batch

        def array(name: str) -> Any:
            return jnp.asarray(batch[name], self.dtype)

        ours = Batch(
            observations=array("observations"),
            actions=array("actions").reshape(BATCH, -1),
            next_observations=array("next_observations")[:, -1],
            rewards=array("rewards")[:, -1],
            masks=array("masks")[:, -1],
            valid=array("valid")[:, -1],
        )
        key = jax.random.wrap_key_data(jnp.asarray([0, index], jnp.uint32))
        self.state, _ = self._step(eqx.tree_at(lambda s: s.key, self.state, key), ours)

    def differences(self, theirs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
        """Kind of array and its largest relative difference, for each array."""
        moments = adam_of(self.state.optimiser_state)
        trees = {"params": self.state.agent, "mu": moments.mu, "nu": moments.nu}
        for kind, tree in trees.items():
            file = self.file(theirs[kind])
            for name, place in self.golden.PLACES[self.method].items():
                target = name.startswith("target_")
                if target and kind != "params":
                    continue
                expected = file.network("params", name)
                for slot, get in self.golden._slots_of(file, name, place(self.state.agent)).items():
                    value = np.asarray(get(place(tree)), np.float64)
                    scale = max(np.abs(expected[slot]).max(), 1e-30)
                    yield (
                        "targets" if target else kind,
                        float(np.abs(value - expected[slot]).max() / scale),
                    )


def lockstep(method: str, arguments: argparse.Namespace) -> None:
    """Prints the differences of one method over the updates."""
    dtype = np.float64 if arguments.double else np.float32
    release = Release(method, arguments.data, arguments.updates, dtype, arguments.lag)
    ours = Ours(release)
    Noise(arguments.updates, dtype).patch()
    for index, batch in enumerate(release.batches):
        release.update(index)
        ours.update(batch, index)
        if index + 1 in SHOWN or index + 1 == arguments.updates:
            largest: dict[str, float] = {}
            for kind, difference in ours.differences(release.state()):
                largest[kind] = max(difference, largest.get(kind, 0.0))
            cells = "  ".join(f"{kind} {value:.1e}" for kind, value in largest.items())
            print(f"{method}  update {index + 1:,}  {cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["qam"])
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--lag", action="store_true")
    arguments = parser.parse_args()
    prepare(arguments.release, arguments.double)
    for method in arguments.methods:
        # Noise replaces JAX's draws for good: each method has a process.
        if process := os.fork():
            if os.waitpid(process, 0)[1]:
                sys.exit(1)
        else:
            lockstep(method, arguments)
            os._exit(0)


if __name__ == "__main__":
    main()

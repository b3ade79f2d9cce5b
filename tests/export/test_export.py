"""`qamx export` and `qamx.deploy`: the same actions, in a bare environment and within time."""

import errno
import importlib
import json
import shutil
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hub_server import HubServer
from jax.extend import core
from short_run import short_run

from qamx import registry
from qamx._utils.files import sha256
from qamx.building import build_agent
from qamx.cli import main
from qamx.deploy import (
    ChunkExecutor,
    Metadata,
    OpenLoop,
    RealTimeExecutor,
    RecedingHorizon,
    TemporalEnsemble,
    check,
    load_policy,
    measure_latency,
    read_metadata,
)
from qamx.deploy.__main__ import main as deploy_main
from qamx.deploy.loading import JaxPolicy, OnnxPolicy
from qamx.errors import RunError, UserError
from qamx.export.bundle import PLATFORMS, export_sampler, write_bundle
from qamx.export.onnx import (
    export_onnx,
    in_units_of_environment,
    record_draws,
    with_draws_as_arguments,
)
from qamx.normalisation import VECTORS, Normalisation, Units
from qamx.tools.bench_measure import settings_of
from qamx.trained_policy import TrainedPolicy

OBSERVATION, ACTION, HORIZON = 5, 2, 3
NOTHING = np.zeros(0, np.float32)
UNITS = Units(
    np.linspace(-1, 1, OBSERVATION, dtype=np.float32),
    np.linspace(0.5, 3, OBSERVATION, dtype=np.float32),
    np.array([-3, 0], np.float32),
    np.array([1, 0.5], np.float32),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run, evaluated and saved at its last step, 30."""
    return short_run(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    """The run's bundle, written by the command."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    assert main(["export", str(run), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(bundle, tmp_path):
    """The bundle, to be spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def tiny_agent(method: str, **changes: Any) -> Any:
    settings = settings_of(method).model_copy(
        update={
            "horizon": HORIZON,
            "actor_hidden": (8,),
            "critic_hidden": (8,),
            "ensemble_size": 2,
            "flow_steps": 3,
            **changes,
        }
    )
    return build_agent(settings, OBSERVATION, ACTION, jax.random.key(0))


def loaded(agent: Any, folder: Path) -> JaxPolicy:
    """The agent exported to a folder, and read from there."""
    sampler = export_sampler(agent, OBSERVATION, "tf32")
    sampler.write(folder)
    metadata = replace(
        Counting().metadata,
        observation_size=OBSERVATION,
        action_size=ACTION,
        horizon=HORIZON,
        units=UNITS,
        platforms=PLATFORMS,
        calling_convention=sampler.convention,
    )
    return JaxPolicy(folder, metadata)


# --- the same actions ---


def test_a_run_of_the_hub_acts_as_the_run(run, tmp_path, monkeypatch):
    hub = HubServer()
    hub.replace_hub(monkeypatch, tmp_path)
    assert main(["push", str(run), "me/maze"]) == 0
    arguments = np.zeros((1, 2)), jax.random.key(0)
    there, here = (TrainedPolicy.load(place).act(*arguments) for place in ("hf:me/maze", run))
    np.testing.assert_array_equal(there, here)
    hub.close()


@pytest.mark.usefixtures("optimised")  # as a policy is deployed
@pytest.mark.parametrize("method", registry.agents.names())
def test_every_method_acts_bitwise_as_in_training(method, tmp_path):
    agent = tiny_agent(method)
    trained = TrainedPolicy(agent, Normalisation(*(getattr(UNITS, v) for v in VECTORS)), HORIZON)
    policy = loaded(agent, tmp_path)
    assert b".py" not in next(tmp_path.rglob("*.stablehlo")).read_bytes()  # no paths of sources
    key = jax.random.key(3)
    for rows in (1, 4) if method == "qam" else (3,):  # one program for any number of observations
        raw = np.asarray(jax.random.normal(jax.random.key(rows), (rows, OBSERVATION)))
        acted = policy.act_with_key(raw, np.asarray(jax.random.key_data(key)))
        assert np.array_equal(acted, trained.act(raw, key))


@pytest.mark.parametrize("method", registry.agents.names())
def test_every_method_is_a_function_of_its_normal_draws(method):
    agent = tiny_agent(method)
    seen, key = jax.random.normal(jax.random.key(1), (4, OBSERVATION)), jax.random.key(3)
    acted = eqx.filter_jit(agent.act_in_evaluation)(seen, key)
    result, drawn = record_draws(agent.act_in_evaluation, seen, key)
    np.testing.assert_allclose(result, acted, atol=1e-5)
    shape = jax.ShapeDtypeStruct(seen.shape, seen.dtype)
    program, shapes = with_draws_as_arguments(agent.act_in_evaluation, shape, key)
    assert [one.shape for one in shapes] == [value.shape for value in drawn]
    lift = jax.jit(core.jaxpr_as_fun(program))
    (lifted,) = lift(seen, *drawn)
    np.testing.assert_allclose(lifted, acted, atol=1e-5)
    if method != "rebrac":  # it adds no noise in evaluations; others do not leave theirs aside
        (other,) = lift(seen, *(-value for value in drawn))
        assert not np.allclose(other, acted, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("qam_edit", {"flow_steps": 2}),
        ("ifql", {}),
        ("dac", {}),
        ("cgql", {}),
        ("fql", {}),
        ("qam", {"solver": "heun"}),
    ],
)
def test_onnx_models_give_the_same_actions(method, changes):
    import onnxruntime

    agent = tiny_agent(method, **changes)
    exported = export_onnx(agent, OBSERVATION, UNITS, HORIZON)
    session = onnxruntime.InferenceSession(exported.model)
    act, key = in_units_of_environment(agent, UNITS, HORIZON), jax.random.key(3)
    for rows in (1, 4):
        raw = jax.random.normal(jax.random.key(rows), (rows, OBSERVATION))
        expected, drawn = record_draws(act, raw, key)
        inputs = {d.name: np.asarray(x) for d, x in zip(exported.draws, drawn, strict=True)}
        assert [d.whole(rows) for d in exported.draws] == [x.shape for x in drawn]
        (found,) = session.run(["actions"], {"observations": np.asarray(raw), **inputs})
        assert np.max(np.abs(found - expected) / UNITS.reach) < 1e-5


def test_other_draws_than_normal_ones_are_refused():
    def act(seen: Any, key: Any) -> Any:
        return seen + jax.random.uniform(key, seen.shape)

    with pytest.raises(UserError, match="not normal"):
        with_draws_as_arguments(act, jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.random.key(0))


def drawing(move: Any) -> Any:
    """A policy of one's own: what it makes of observations, and a normal draw."""

    def act(seen: Any, key: Any) -> Any:
        seen = seen[:, :ACTION]
        return move(seen) + jax.random.normal(key, seen.shape)

    return SimpleNamespace(act_in_evaluation=act)


def test_what_the_converter_does_not_know_is_one_message():
    own: Any = drawing(lambda seen: jax.pure_callback(np.asarray, seen, seen))
    with pytest.raises(UserError, match="the converter does not know what the policy does"):
        export_onnx(own, OBSERVATION, UNITS, 1)


def test_a_loop_of_unknown_length_is_one_message():
    def halved(seen: Any) -> Any:
        return jax.lax.while_loop(lambda x: jnp.sum(x) > 1.0, lambda x: x / 2, seen)

    with pytest.raises(UserError, match="length is known only when it acts"):
        export_onnx(drawing(halved), OBSERVATION, UNITS, 1)


@pytest.mark.parametrize(("precision", "mark"), [("float32", "HIGHEST"), ("tf32", "HIGH")])
def test_a_gpu_multiplies_in_the_precision_of_the_run(precision, mark):
    sampler = export_sampler(tiny_agent("rebrac"), OBSERVATION, precision)
    program = jax.export.export(jax.jit(lambda: 0))()
    program = replace(program, mlir_module_serialized=sampler.program).mlir_module()
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all(f"precision = [{mark}, {mark}]" in line for line in products)


def test_loops_are_written_out_in_their_order():
    def act(seen: Any, key: Any) -> Any:
        def step(x: Any, slope: Any) -> Any:
            return x * 2 + slope, x

        last, path = jax.lax.scan(step, seen, jnp.arange(4.0), reverse=True)
        return last + jnp.sum(path * jnp.arange(4.0)[:, None], 0) + jax.random.normal(key, (3,))

    seen, key = jnp.arange(3.0), jax.random.key(0)
    result, _ = record_draws(act, seen, key)
    np.testing.assert_allclose(result, act(seen, key), rtol=1e-6)


# --- the folder ---


def test_the_command_says_what_it_wrote_and_that_it_is_bitwise(run, tmp_path, capsys):
    out = tmp_path / "onnx"
    assert main(["export", str(run), "--format", "onnx", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "chunks of 3 x 2, steps by dimensions" in said
    assert "the training code's actions, on" in said
    metadata = read_metadata(out)
    assert (metadata.kind, metadata.policy["step"]) == ("onnx", 30)
    assert check(out, calls=3).passed
    assert isinstance(load_policy(out), OnnxPolicy)
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_a_bundle_holds_what_it_takes(run, bundle):
    metadata = read_metadata(bundle)
    assert set(metadata.platforms) == {"cpu", "cuda"}
    assert (metadata.observation_size, metadata.action_size, metadata.horizon) == (2, 2, 3)
    row = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    assert metadata.evaluation == row
    assert {"median_ms", "p99_ms", "products_ms", "over_products"} <= metadata.latency.keys()
    assert check(bundle, calls=3).bitwise
    weights = sum(x.size for x in np.load(bundle / "weights.npz").values())
    # The fine-tuned flow alone: [2 + 3 * 2 + 1, 16], [16, 6], biases. No critic, no target.
    assert weights == (9 * 16 + 16) + (16 * 6 + 6)


def test_an_export_is_evaluated_as_its_run(run, bundle, tmp_path):
    file = tmp_path / "found.json"
    assert main(["eval", str(bundle), "--json", str(file)]) == 0
    (found,) = json.loads(file.read_text())["evaluations"]
    row = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    for name in ("step", "success", "return", "length"):
        assert found[name] == row[name]


BARE = """
    import sys, time
    from importlib.metadata import packages_distributions

    there = {"jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "qamx"}
    for name in packages_distributions():
        if name not in there and not name.startswith("_"):
            sys.modules[name] = None
    import numpy, jax
    began = time.perf_counter()
    import qamx.deploy
    print("import", time.perf_counter() - began)
    from qamx.deploy import check, load_policy
    print("bitwise", check(sys.argv[1], 3).bitwise)
    print("training", sorted(m for m in sys.modules if m.startswith("qamx.") and "deploy" not in m))
"""


def test_a_bundle_acts_without_the_training_dependencies(bundle):
    command = [sys.executable, "-c", textwrap.dedent(BARE), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["bitwise"] == "True"
    utils = ["", ".backend", ".checks", ".files", ".hub", ".machine", ".units"]
    assert said["training"] == str([*(f"qamx._utils{name}" for name in utils), "qamx.errors"])


def test_an_older_bundle_is_still_read():
    kept = Path(__file__).parents[1] / "data" / "bundle"  # as version 0.1.0 wrote it
    assert read_metadata(kept).made_with["qamx"] == "0.1.0"
    assert check(kept, calls=1).passed


def test_the_bundle_of_the_documentation_solves_the_maze(tmp_path, capsys):
    folder = Path(__file__).parents[2] / "docs" / "examples" / "quickstart_bundle"
    assert deploy_main([str(folder)]) == 0
    file = tmp_path / "found.json"
    assert (
        main(["eval", str(folder), "--episodes", "2", "--workers", "0", "--json", str(file)]) == 0
    )
    assert "100% (2/2)" in capsys.readouterr().out
    assert sum(one.stat().st_size for one in folder.iterdir()) < 200_000
    assert b"site-packages" not in (folder / "sampler.stablehlo").read_bytes()


def test_the_check_of_a_machine(bundle, copy, capsys):
    assert deploy_main([str(bundle), "--calls", "3"]) == 0
    assert "bitwise the recorded ones (" in capsys.readouterr().out
    with np.load(copy / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["actions"] = arrays["actions"] + np.float32(0.01)
    np.savez(copy / "golden.npz", allow_pickle=False, **arrays)
    rewrite(copy, "golden.npz", (copy / "golden.npz").read_bytes())
    assert deploy_main([str(copy), "--calls", "3"]) == 1
    assert "do not use it here" in capsys.readouterr().out
    assert deploy_main([str(copy), "--calls", "0"]) == 2
    assert "--calls: found 0" in capsys.readouterr().err


# --- mistakes ---


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def change(folder: Path, **values: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """A file that is another one, and is said to be."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "bundle.json").read_text())["files"]
    change(folder, files={**files, name: sha256(folder / name)})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "bundle.json").unlink(), "no exported policy"),
        (lambda f: truncate(f / "bundle.json"), "bundle.json: cannot be read"),
        (lambda f: truncate(f / "weights.npz"), "weights.npz: not the file that was exported"),
        (lambda f: (f / "sampler.stablehlo").unlink(), "sampler.stablehlo: missing"),
        (
            lambda f: (f / "bundle.json").write_text('{"format": "qamx", "version": 99}'),
            "version 99, and this qamx reads 1",
        ),
        (lambda f: change(f, kind="stone"), "bundle.json: cannot be read (KeyError: 'stone')"),
        (lambda f: change(f, horizon=0), "horizon is 0"),
        (lambda f: change(f, files={}), "files lacks experiment.toml, golden.npz"),
        (lambda f: change(f, calling_convention=99), "calling convention 99, not"),
        (lambda f: rewrite(f, "sampler.stablehlo", b"nothing"), "cannot read what 0.10.2 wrote"),
    ],
)
def test_a_damaged_bundle_is_one_message(spoil, said, copy, capsys):
    spoil(copy)
    assert deploy_main([str(copy)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_bundle_for_another_device_is_one_message(copy):
    metadata = read_metadata(copy)
    with pytest.raises(UserError, match="exported for cuda, and JAX runs on cpu here"):
        JaxPolicy(copy, replace(metadata, platforms=("cuda",)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no run"),
        (["{run}", "--step", "7"], "--step: found 7"),
        (["{run}", "--out", "{full}/notes.txt/inside"], "cannot be written (Not a directory)"),
        (["{run}", "--out", "{full}"], "there is something else, not an exported policy"),
    ],
)
def test_what_cannot_be_exported_is_one_message(arguments, said, run, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = [text.format(run=run, full=tmp_path) for text in arguments]
    assert main(["export", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_one_message_and_leaves_nothing(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qamx.export.bundle._jax_files", full)
    with pytest.raises(RunError, match="the disk is full"):
        write_bundle(None, "bundle", tmp_path / "out")  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


def test_observations_of_another_shape_or_not_finite_are_refused(bundle):
    policy = load_policy(bundle)
    with pytest.raises(ValueError, match=r"found shape \(1, 7\); give \(batch, 2\)"):
        policy.act(np.zeros((1, 7)), 0)
    with pytest.raises(ValueError, match="row 1 has entries that are not finite"):
        policy.act(np.array([[0, 0], [np.nan, 0]]), 0)


# --- chunks to actions ---


class Counting:
    """A policy whose chunk number n says 10 n, 10 n + 1, ..."""

    def __init__(self, horizon: int = 4):
        empty = Units(NOTHING, NOTHING, NOTHING, NOTHING)
        self.metadata = Metadata(
            "bundle", 1, 1, horizon, None, empty, (), (), None, {}, {}, {}, None, {}, {}
        )
        self.calls: list[tuple[int, int]] = []
        self.seen: list[float] = []

    def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
        self.calls.append((seed, call))
        self.seen.append(float(observations[0, 0]))
        chunk = 10.0 * call + np.arange(self.metadata.horizon, dtype=np.float32)
        return chunk[None, :, None]


def played(executor: Any, steps: int) -> list[float]:
    return [float(executor.act(np.array([step]))[0]) for step in range(steps)]


def test_open_loop_and_receding_horizons():
    assert played(ChunkExecutor(Counting(), OpenLoop()), 6) == [0, 1, 2, 3, 10, 11]
    policy = Counting()
    assert played(ChunkExecutor(policy, RecedingHorizon(2), seed=5), 5) == [0, 1, 10, 11, 20]
    assert policy.calls == [(5, 0), (5, 1), (5, 2)]
    assert policy.seen == [0, 2, 4]
    assert played(ChunkExecutor(Counting(), RecedingHorizon(9)), 5) == [0, 1, 2, 3, 10]


def test_temporal_ensembling_weighs_the_oldest_chunk_most():
    m = 0.5
    found = played(ChunkExecutor(Counting(3), TemporalEnsemble(m)), 4)
    w = np.exp(-m * np.arange(3))
    expected = [
        0.0,
        np.average([1, 10], weights=w[:2]),
        np.average([2, 11, 20], weights=w),
        np.average([12, 21, 30], weights=w),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_reset_begins_a_chunk_with_other_draws():
    policy = Counting()
    executor = ChunkExecutor(policy, seed=3)
    played(executor, 2)
    executor.reset()
    played(executor, 1)
    executor.reset(8)
    played(executor, 1)
    assert policy.calls == [(3, 0), (4, 0), (8, 0)]


@pytest.mark.parametrize("make", [lambda: RecedingHorizon(0), lambda: TemporalEnsemble(-1.0)])
def test_executions_that_cannot_be(make):
    with pytest.raises(ValueError, match="found"):
        make()


# --- within a bounded time ---


class Gated(Counting):
    """Answers when it is let to; warming up needs no leave."""

    def __init__(self, horizon: int = 4):
        super().__init__(horizon)
        self.gate = threading.Event()
        self.gate.set()

    def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
        assert self.gate.wait(20)
        return super().act(observations, seed, call)


def test_a_late_chunk_is_bridged_and_then_joined_at_the_present_step():
    policy = Gated()
    executor = RealTimeExecutor(policy, budget=20.0, steps=2, seed=1)
    first = [executor.act(np.array([step])) for step in range(2)]
    assert [float(t.action[0]) for t in first] == [0, 1]
    policy.gate.clear()
    executor._budget = 0.01
    late = [executor.act(np.array([step])) for step in (2, 3, 4)]
    # Chunk 1 is asked for at step 2 and does not come: the rest of chunk 0, then its last action.
    assert [float(t.action[0]) for t in late] == [2, 3, 3]
    assert [(t.late, t.held) for t in late] == [(True, False), (True, False), (True, True)]
    policy.gate.set()
    executor._budget = 20.0
    joined = executor.act(np.array([5]))
    # It was planned from step 2, so that step 5 is its fourth action.
    assert (float(joined.action[0]), joined.age, joined.late) == (13, 3, False)
    assert policy.seen == [0, 0, 2]  # warming up, step 0, step 2
    executor.close()


def test_what_comes_too_late_to_be_of_use_is_asked_for_anew():
    policy = Gated()
    executor = RealTimeExecutor(policy, budget=20.0, steps=2)
    executor.act(np.zeros(1))
    executor.act(np.array([1]))
    policy.gate.clear()
    executor._budget = 0.01
    for step in range(2, 6):
        executor.act(np.array([step]))
    policy.gate.set()
    executor._budget = 20.0
    late = executor.act(np.array([6]))  # the chunk of step 2 is of steps 2 to 5
    assert (late.late, late.held) == (True, True)
    fresh = executor.act(np.array([7]))
    assert (float(fresh.action[0]), fresh.age) == (21, 1)  # asked for at step 6
    executor.close()


def test_a_fallback_is_played_where_nothing_is_known():
    policy = Gated()
    executor = RealTimeExecutor(policy, budget=0.01, fallback=np.array([-7.0]))
    policy.gate.clear()
    held = executor.act(np.zeros(1))
    assert (float(held.action[0]), held.late, held.held) == (-7, True, True)
    held.action[:] = 5  # as a driver may that clips in place
    assert float(executor.act(np.zeros(1)).action[0]) == -7
    policy.gate.set()
    executor.reset()  # waits for the chunk of the last episode, and does not play it
    executor._budget = 20.0
    assert float(executor.act(np.zeros(1)).action[0]) == 0
    executor.close()


def test_what_the_policy_raises_is_raised_in_the_loop():
    class Failing(Counting):
        def act(self, observations: np.ndarray, seed: int, call: int = 0) -> np.ndarray:
            if len(self.calls) == 1:
                self.calls.append((seed, call))
                raise ValueError("no observation like this")
            return super().act(observations, seed, call)

    executor = RealTimeExecutor(Failing(), budget=20.0)
    with pytest.raises(ValueError, match="no observation like this"):
        executor.act(np.zeros(1))
    asked_anew = executor.act(np.zeros(1))
    assert (asked_anew.age, asked_anew.held) == (0, False)
    with pytest.raises(ValueError, match="found shape"):
        executor.act(np.zeros(3))
    executor.close()


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0.0},
        {"budget": float("inf")},
        {"budget": 0.1, "steps": 0},
        {"budget": 0.1, "steps": 5},
        {"budget": 0.1, "fallback": np.zeros(2)},
        {"budget": 0.1, "fallback": np.array([np.nan])},
    ],
)
def test_bounds_that_cannot_be(options):
    with pytest.raises(ValueError, match="found"):
        RealTimeExecutor(Counting(), **options)


def test_latency_leaves_the_first_call_out():
    policy = Counting()
    latency = measure_latency(policy, np.zeros((1, 1)), 5)
    assert len(policy.calls) == 6
    assert 0 < latency.median_ms <= latency.p99_ms <= latency.longest_ms


# --- the example of a server ---

SERVING = Path(__file__).parents[2] / "docs" / "examples" / "serving"


def test_the_server_and_its_client_play_an_episode(bundle, monkeypatch):
    monkeypatch.syspath_prepend(SERVING)
    client: Any = importlib.import_module("client")
    command = [sys.executable, str(SERVING / "server.py"), str(bundle), "--port", "0"]
    command += ["--budget-ms", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[-1])
            remote, policy = client.Remote(port), load_policy(bundle)
            for seed in (3, 4):
                remote.reset(seed)
                observations = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)
                found = [remote.act(one) for one in observations]
                assert [answer["age"] for answer in found] == [0, 1, 0]  # half of 3, rounded up
                chunks = [
                    policy.act(observations[i][None], seed, n)[0] for n, i in ((0, 0), (1, 2))
                ]
                expected = [chunks[0][0], chunks[0][1], chunks[1][0]]
                assert np.array_equal([a["action"] for a in found], np.array(expected, np.float64))
            with pytest.raises(RuntimeError, match="found shape"):
                remote.act(np.zeros(7))
            remote.reset(5)  # a mistake does not end the connection
            assert len(remote.act(np.zeros(2))["action"]) == 2
        finally:
            server.terminate()

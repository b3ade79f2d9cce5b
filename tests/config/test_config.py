"""Experiment files: their values, what is refused and how, and that they write themselves."""

import csv
import errno
import os
import re
import shutil
import subprocess
import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli
from pydantic import BaseModel

from qamx import registry
from qamx.cli import main
from qamx.cli.listing import listing
from qamx.config import (
    AgentSettings,
    ConfigError,
    Experiment,
    LinearTemperature,
    OfflineSettings,
    OfflineToOnlineSettings,
    OGBenchDataSettings,
    OGBenchEnvironmentSettings,
    QAMEditSettings,
    QAMSettings,
    load,
    load_suite,
)
from qamx.config.agents import TRQAMSettings
from qamx.config.schedules import OnlineSettings
from qamx.errors import UserError
from qamx.registry import Registry, RegistryError
from qamx.tools.results.runs import Run, read_run
from qamx.tools.sweep.slurm import load_cluster
from qamx.training.plan import keys_of

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.toml"))

# Table of domains: environment, default task, reward, 100M shards, horizon, discount, pessimism.
DOMAINS = {
    "al": ("antmaze-large-navigate", 1, "default", False, 1, 0.99, 0.5),
    "ag": ("antmaze-giant-navigate", 1, "default", False, 1, 0.995, 0.5),
    "hm": ("humanoidmaze-medium-navigate", 1, "default", False, 1, 0.995, 0.0),
    "hl": ("humanoidmaze-large-navigate", 1, "default", False, 1, 0.995, 0.0),
    "scene": ("scene-play", 2, "sparse", False, 5, 0.99, 0.5),
    "p33": ("puzzle-3x3-play", 2, "sparse", False, 5, 0.99, 0.5),
    "p44": ("puzzle-4x4-play", 2, "sparse", True, 5, 0.99, 0.5),
    "c2": ("cube-double-play", 2, "default", False, 5, 0.99, 0.5),
    "c3": ("cube-triple-play", 2, "default", False, 5, 0.99, 0.5),
    "c4": ("cube-quadruple-play", 2, "default", True, 5, 0.99, 0.5),
}

# The tuned values of each method on each domain, as published; TRQAM's are in its own test.
with (ROOT / "tests" / "hyperparameters.csv").open() as lines:
    TUNED: dict[tuple[str, str], dict[str, float]] = {}
    for row in csv.DictReader(lines):
        values = TUNED.setdefault((row["domain"], row["method"]), {})
        values[row["parameter"]] = float(row["value"])

# A part whose weight is 0 is absent: the key is not in the file, and the method that it would make
# of QAM is QAM.
PART = {"qam_fql": "distill_weight", "qam_edit": "edit_scale"}

VALID = """
[environment]
id = "cube-double-play"
task = 2
[agent]
method = "qam"
horizon = 5
discount = 0.99
pessimism = 0.5
inverse_temperature = 1.0
"""

RUN = (
    """
name = "mine"
seed = 7
evaluation = { episodes = 5 }
schedule = { offline_steps = 1 }
"""
    + VALID
)


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """Looking for a plugin adds folders to `sys.path`."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def experiment(name: str, *overrides: str) -> Experiment:
    return load(ROOT / "experiments" / f"{name}.toml", overrides)


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def problems(file: Path, *overrides: str, seed: int | None = None) -> list[str]:
    """The lines of the error, with the file's folder left out."""
    with pytest.raises(ConfigError) as caught:
        load(file, overrides, seed)
    return str(caught.value).replace(f"{file.parent}/", "").splitlines()


def problems_of(folder: Path, change: str, *overrides: str) -> list[str]:
    """The lines of the error of a valid file in which `key = value` replaces the line of `key`."""
    key = change.partition(" =")[0]
    kept = [line for line in VALID.splitlines() if not line.startswith(f"{key} =")]
    section = "[environment]" if key in ("id", "task", "reward") else "[agent]"
    kept.insert(kept.index(section) + 1, change)
    return problems(write(folder, "\n".join(kept)), *overrides)


# The experiments that come with the library


def test_every_experiment_writes_itself(tmp_path):
    for file in EXPERIMENTS:
        original = load(file)
        copy = write(tmp_path, original.to_toml(), "resolved.toml")
        assert load(copy) == original, file
        assert original.differences(load(copy)) == []
        assert "extends" not in tomli.loads(copy.read_text())


def test_every_method_is_there_on_every_domain():
    pairs = {f"{domain}_{method}" for domain in DOMAINS for method in registry.agents.names()}
    assert {file.stem for file in EXPERIMENTS} - {"quickstart", "cpu_manipulation"} == pairs
    assert len(pairs) == 220


def domain_values(loaded: Experiment) -> tuple[object, ...]:
    environment, data, agent = loaded.environment, loaded.data, loaded.agent
    assert isinstance(environment, OGBenchEnvironmentSettings)
    assert isinstance(data, OGBenchDataSettings)
    sharded = data.updates_per_shard == 1000 and data.name == f"{environment.id}-100m-v0"
    assert sharded or (data.updates_per_shard is None and data.name == f"{environment.id}-v0")
    return (
        environment.id,
        environment.task,
        environment.reward,
        sharded,
        agent.horizon,
        agent.discount,
        agent.pessimism,
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_values(domain):
    for method in set(registry.agents.names()) - {"trqam", "trqam_edit"}:
        assert domain_values(experiment(f"{domain}_{method}")) == DOMAINS[domain], method


@pytest.mark.parametrize("domain", DOMAINS)
def test_trqam_in_its_authors_settings(domain):
    loaded = experiment(f"{domain}_trqam")
    environment, task, reward, sharded, horizon, _, pessimism = DOMAINS[domain]
    ten = domain in ("ag", "c3", "p44")
    discount = 0.999 if domain in ("hm", "hl") else 0.995
    ours = (environment, task, reward, sharded or ten, horizon, discount, pessimism)
    assert domain_values(loaded) == ours
    assert isinstance(loaded.data, OGBenchDataSettings)
    assert loaded.data.shards == (10 if ten else None)
    agent, large = loaded.agent, ten or domain == "c4"
    assert isinstance(agent, TRQAMSettings)
    assert agent.kl_budget == (0.5 if domain == "c3" else 1.0)
    assert agent.actor_hidden == agent.critic_hidden == (1024 if large else 512,) * 4
    assert agent.actor_layer_norm is large
    assert loaded.schedule == OfflineToOnlineSettings(cloning_steps=300_000)


@pytest.mark.parametrize("domain", DOMAINS)
def test_trqam_edit_is_trqam_with_an_edit(domain):
    changed = {
        key: value
        for key, _, value in experiment(f"{domain}_trqam").differences(
            experiment(f"{domain}_trqam_edit")
        )
    }
    assert changed.pop("name") == f"{domain}_trqam_edit"
    assert changed.pop("agent.method") == "trqam_edit"
    assert changed.pop("agent.edit_scale") == (TUNED[domain, "qam_edit"]["edit_scale"] or 0.1)
    assert changed.keys() <= {"agent.target_entropy_scale"}


UNTUNED = {"trqam", "trqam_edit", "preflow", "qgf"}
"""Methods without published values for each domain."""


def test_tuned_values():
    """Each published value is in the file of its domain and method, which tunes nothing else."""
    assert {method for _, method in TUNED} == set(registry.agents.names()) - UNTUNED
    for (domain, method), values in TUNED.items():
        file = ROOT / "experiments" / f"{domain}_{method}.toml"
        absent = {key for key in PART.values() if values.get(key) == 0}
        present = {key: value for key, value in values.items() if key not in absent}
        agent = load(file).agent.model_dump()
        assert agent["method"] == ("qam" if PART.get(method) in absent else method), file
        assert {key: agent[key] for key in present} == present, file
        written = tomli.loads(file.read_text()).get("agent", {}).keys() - {"method"}
        assert written <= present.keys(), file


def test_rlpd_has_no_offline_phase():
    for domain in DOMAINS:
        loaded = experiment(f"{domain}_rlpd")
        assert loaded.schedule == OnlineSettings()
        assert loaded.agent.sampling == "balanced"


def test_files_show_only_what_differs():
    """No key of an extending file repeats its bases, and none of them repeats a default."""
    for file in EXPERIMENTS:
        own, base = tomli.loads(file.read_text()), {}
        extends = own.get("extends", [])
        for name in [extends] if isinstance(extends, str) else extends:
            for section, table in tomli.loads((file.parent / name).read_text()).items():
                base[section] = base.get(section, {}) | table
        loaded = load(file)
        written = loaded.to_dict()
        for section in written.keys() & (own.keys() | base.keys()) - {"name", "seed", "plugins"}:
            mine, shared = own.get(section, {}), base.get(section, {})
            assert all(mine[key] != shared[key] for key in mine.keys() & shared.keys()), file
            for key in (mine | shared).keys() - {"kind", "method"}:
                assert written[section][key] != _default(loaded, section, key), (file, key)


def test_files_begin_with_their_source_and_shared_ones_with_what_their_name_stands_for():
    source = re.compile(r"# (Source|Method): .*arXiv \d{4}\.\d{5}.*")
    for file in EXPERIMENTS:
        first, second = file.read_text().splitlines()[:2]
        assert source.fullmatch(first) or source.fullmatch(second), file
    shared = [*(ROOT / "experiments").glob("domains/*"), *(ROOT / "experiments").glob("methods/*")]
    assert {file.stem for file in shared} > DOMAINS.keys()
    for file in shared:
        first, second = file.read_text().splitlines()[:2]
        environment = DOMAINS[file.stem][0] if file.stem in DOMAINS else ""
        assert re.match(rf"# {file.stem}( =|:) {environment}", first), file
        assert source.fullmatch(second), file


def test_no_experiment_repeats_its_methods_protocol():
    for method in ("trqam", "trqam_edit", "preflow", "qgf", "rlpd"):
        for file in (ROOT / "experiments").glob(f"*_{method}.toml"):
            own = tomli.loads(file.read_text())
            assert f"methods/{method}.toml" in own["extends"]
            assert "schedule" not in own


def _default(loaded: Experiment, section: str, key: str) -> object:
    return type(getattr(loaded, section)).model_fields[key].default


def test_defaults_are_the_papers():
    loaded = experiment("al_qam")
    assert loaded.name == "al_qam"
    assert loaded.seed == 10001
    assert loaded.run_name == "al_qam-task1-seed10001"
    agent = loaded.agent
    assert (agent.target_rate, agent.ensemble_size, agent.flow_steps) == (0.005, 10, 10)
    assert (agent.batch_size, agent.learning_rate, agent.gradient_clip) == (256, 3e-4, 1.0)
    assert agent.actor_hidden == agent.critic_hidden == (512, 512, 512, 512)
    assert (agent.actor_layer_norm, agent.critic_layer_norm) == (False, True)
    assert agent.solver == "euler"
    schedule = OfflineToOnlineSettings(
        offline_steps=1_000_000, online_steps=500_000, online_warmup=5_000, updates_per_step=1
    )
    assert loaded.schedule == schedule
    assert (loaded.evaluation.every, loaded.evaluation.episodes) == (50_000, 50)


def test_the_methods_clip_gradients_that_do_in_the_paper():
    clipping = {"qam", "qam_fql", "qam_edit", "bam", "qsm", "dac", "trqam", "trqam_edit", "preflow"}
    for entry in registry.agents:
        default = entry.load_settings().model_fields["gradient_clip"].default
        assert default == (1.0 if entry.name in clipping else "none"), entry.name


def test_the_quickstart_generates_its_own_data():
    data = experiment("quickstart").data
    assert isinstance(data, OGBenchDataSettings)
    assert data.generate_episodes
    assert data.directory == "data/quickstart"


# Putting an experiment together


def test_later_wins_over_earlier(tmp_path):
    write(tmp_path, VALID + "batch_size = 64\nflow_steps = 3\nensemble_size = 2\n", "base/b.toml")
    file = write(tmp_path, 'extends = "base/b.toml"\n[agent]\nflow_steps = 4\nensemble_size = 3\n')
    agent = load(file, ["agent.ensemble_size=4"]).agent
    assert (agent.batch_size, agent.flow_steps, agent.ensemble_size) == (64, 4, 4)


def test_overrides_are_toml_or_bare_words(tmp_path):
    loaded = load(
        write(tmp_path, VALID),
        [
            "agent.actor_hidden=[32, 16]",
            "agent.solver=heun",
            "data.source=ogbench:cube-double-noisy-v0",
            "evaluation.behaviour=true",
            'agent.inverse_temperature={schedule="linear", start=0, stop=3, updates=10}',
            "agent.inverse_temperature.stop=4",
            "schedule.kind=offline",
        ],
        seed=3,
    )
    assert loaded.agent.actor_hidden == (32, 16)
    assert loaded.agent.solver == "heun"
    assert loaded.data.source == "ogbench:cube-double-noisy-v0"
    assert loaded.evaluation.behaviour is True
    assert loaded.schedule == OfflineSettings()
    assert loaded.seed == 3
    linear = LinearTemperature(start=0.0, stop=4.0, updates=10)
    assert isinstance(loaded.agent, QAMSettings)
    assert loaded.agent.inverse_temperature == linear
    assert load(write(tmp_path, loaded.to_toml(), "copy.toml"), ["name=mine"]) == loaded


def test_an_empty_override_restores_the_default():
    loaded = experiment("c4_qam", "data.source=", "data.updates_per_shard=")
    assert loaded.data.source == "ogbench:cube-quadruple-play-v0"


def test_a_constant_schedule_is_a_number(tmp_path):
    table = 'agent.inverse_temperature={schedule="constant", value=1.0}'
    assert load(write(tmp_path, VALID), [table]) == load(write(tmp_path, VALID))


def test_differences_name_the_keys():
    one = experiment("al_qam")
    two = experiment("al_qam", "agent.batch_size=8", "data.directory=here", "name=other")
    assert one.differences(two) == [
        ("name", "al_qam", "other"),
        ("agent.batch_size", 256, 8),
        ("data.directory", None, "here"),
    ]


# What is refused


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ('batch_size = "256"', 'found "256" (a string); write a positive integer, e.g. 256'),
        ("batch_size = 0", "found 0; write a positive integer, e.g. 256"),
        ("batch_size = -1", "found -1; write a positive integer, e.g. 256"),
        ("batch_size = 2.5", "found 2.5 (a number); write a positive integer, e.g. 256"),
        ("batch_size = true", "found true (a boolean); write a positive integer, e.g. 256"),
        ("learning_rate = nan", "found nan; write a positive number, e.g. 0.0003"),
        ("learning_rate = inf", "found inf; write a positive number, e.g. 0.0003"),
        ("discount = 1.0", "found 1.0; write a number from 0 to below 1, e.g. 0.99"),
        ("pessimism = -0.5", "found -0.5; write a number of at least 0, e.g. 0.0"),
        ("target_rate = 0", "found 0; write a number above 0, at most 1, e.g. 0.005"),
        ("critic_layer_norm = 1", "found 1 (an integer); write true or false, e.g. true"),
        ("solver = 'eulr'", 'found "eulr"; did you mean "euler"?'),
        (
            "actor_hidden = [512, '512']",
            'found [512, "512"] (a list); '
            "write a list of positive integers, e.g. [512, 512, 512, 512]",
        ),
        (
            "gradient_clip = 'off'",
            'found "off" (a string); write a positive number, or "none" for no clipping, e.g. 1.0',
        ),
        (
            "inverse_temperature = 0.0",
            "found 0.0; write a positive number, or a table such as "
            '{ schedule = "linear", ... }, e.g. 1.0',
        ),
        ("method = 'qam_edt'", 'unknown method "qam_edt"; did you mean "qam_edit"?'),
        ("id = 'cube-quadrupel-play'", 'found "cube-quadrupel-play"; did you mean'),
        ("id = 'antmaze-giant-explore'", 'found "antmaze-giant-explore"; did you mean'),
        ("id = 'gym:x'", 'unknown environment scheme "gym"; known: gymnasium'),
        ("task = 6", "found 6; write an integer from 1 to 5, e.g. 2"),
        ("reward = 'sprase'", 'found "sprase"; did you mean "sparse"?'),
        ("edit_scal = 0.1", "unknown key; known: "),
        ("batch_sise = 1", 'unknown key; did you mean "batch_size"?'),
    ],
)
def test_a_bad_value_names_file_key_and_remedy(tmp_path, change, line):
    key = change.partition(" =")[0]
    section = "environment" if key in ("id", "task", "reward") else "agent"
    (found,) = problems_of(tmp_path, change)
    assert found.startswith(f"mine.toml: {section}.{key}: {line}")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("agent.edit_scal=0.1", 'agent.edit_scal: unknown key; did you mean "edit_scale"?'),
        ("agent.edit_scale=0", "agent.edit_scale: found 0; write a number above 0, at most 2"),
        ("agent.horizon=ten", 'agent.horizon: found "ten" (a string); write a positive integer'),
        ("agent.method=7", "agent.method: found 7 (an integer); known: qam, "),
        ("agent=3", "agent: found 3; write a table [agent]"),
        ("agent.actor_hidden=[1", "agent.actor_hidden: found [1, which is not TOML"),
        ("agent.inverse_temperature.stop=1", "agent.inverse_temperature.stop: agent.inverse_temp"),
        ("agent.inverse_temperature={schedule='up'}", "agent.inverse_temperature.schedule: unk"),
        ("agent.inverse_temperature={}", "agent.inverse_temperature.schedule: missing; known: c"),
        ("schedule.kind=ofline", 'schedule.kind: unknown schedule "ofline"; did you'),
        ("schedule.online_warmup=500000", "schedule.online_warmup: 500000 warm-up steps leave no"),
        ("data.source=csv:x", 'data.source: unknown data scheme "csv"; known: hdf5'),
        ("data.source=ogbench:cube-duble-play-v0", 'data.source: found "ogbench:cube-duble-play'),
        ("data.source=cube-double-play", 'data.source: found "cube-double-play"; did you mean "c'),
        ("data.source=ogbench:scene-play-v0", 'data.source: "ogbench:scene-play-v0" has the obs'),
        ("data.updates_per_shard=10", "data.updates_per_shard: found 10, but "),
        ("data.updates_per_shard=x", 'data.updates_per_shard: found "x" (a string); write a pos'),
        (
            "data.shards=10",
            'data.shards: found 10, but "ogbench:cube-double-play-v0" has no shards',
        ),
        ("data.generate_seed=1", "data.generate_seed: found 1 without generate_episodes"),
        ("evalution.every=3", 'evalution: unknown table; did you mean "evaluation"?'),
        ("sed=3", 'sed: unknown key; did you mean "seed"?'),
        ("name=a/b", 'name: found "a/b"; write a file name of letters'),
        ("logging.wandb=on", 'logging.wandb: found "on"; known: disabled, offline, online'),
        ("compute.precision=fp8", 'compute.precision: found "fp8"; known: bfloat16, float32, tf32'),
        (
            "compute.updates_per_dispatch=0",
            'compute.updates_per_dispatch: found 0; write a positive integer, or "auto"',
        ),
        ("extends=x.toml", "extends: stands in the file alone"),
        ("nothing", 'found "nothing"; write section.key=value'),
    ],
)
def test_a_bad_override_is_laid_to_set(tmp_path, override, line):
    file = write(tmp_path, VALID.replace('"qam"', '"qam_edit"') + "edit_scale = 0.1\n")
    (found,) = problems(file, override)
    assert found.startswith(f"--set: {line}")


@pytest.mark.parametrize("seed", [2**32, 2**32 + 7, 2**63, 2**70])
def test_a_seed_that_jax_takes_for_another_is_refused(tmp_path, seed, capsys):
    file = write(tmp_path, VALID)
    said = f"found {seed}; write an integer from 0 to 4294967295"
    assert problems(file, seed=seed) == [f"--seed: seed: {said}, e.g. 10001"]
    assert problems(file, f"seed={seed}") == [f"--set: seed: {said}, e.g. 10001"]
    assert load(file, seed=2**32 - 1).seed == 2**32 - 1
    assert main(["run", str(file), "--seeds", "2", "--seed", str(2**32 - 10001)]) == 2
    last = "--seeds 2, the seed of the last run: found 4294967296; write an integer from 0 to"
    assert last in capsys.readouterr().err
    suite = f'[[group]]\nexperiments = ["{file.name}"]\nseeds = [1, {seed}]\n'
    with pytest.raises(ConfigError, match=f"found .*{seed}.*from 0 to 4294967295"):
        load_suite(write(tmp_path, suite, "suite.toml"))
    with pytest.raises(UserError, match=f"seed: {said}"):
        keys_of(seed)


def test_a_bad_seed_is_laid_to_seed(tmp_path):
    (found,) = problems(write(tmp_path, VALID), seed=-1)
    assert found == "--seed: seed: found -1; write an integer from 0 to 4294967295, e.g. 10001"


def test_shards_need_a_rhythm(tmp_path):
    source = '[data]\nsource = "ogbench:cube-double-play-100m-v0"\n'
    assert problems(write(tmp_path, VALID + source)) == [
        "mine.toml: data.updates_per_shard: missing, and "
        '"ogbench:cube-double-play-100m-v0" is a folder of shards; '
        "write a positive integer, e.g. 1000"
    ]


def test_problems_inside_a_schedule_of_the_temperature(tmp_path):
    table = 'inverse_temperature = { schedule = "linear", stop = -1.0, updates = 0, begin = 2 }'
    assert problems_of(tmp_path, table) == [
        "mine.toml: agent.inverse_temperature.start: missing; write a number of at least 0",
        "mine.toml: agent.inverse_temperature.stop: found -1.0; write a positive number",
        "mine.toml: agent.inverse_temperature.updates: found 0; write a positive integer",
        "mine.toml: agent.inverse_temperature.begin: "
        "unknown key; known: schedule, start, stop, updates",
    ]


def test_all_problems_come_at_once_with_the_file_that_has_them(tmp_path):
    base = VALID.replace("0.99", "1.5") + "pessimist = 1\n[evaluation]\nevery = 0\n"
    write(tmp_path, base, "base.toml")
    own = (
        'extends = "base.toml"\nsede = 1\nplugins = ["not_there_at_all"]\n'
        '[agent]\nmethod = "qam_fqi"\nbatch_size = "8"\n[environment]\ntask = 0\n'
        '[schedul]\nkind = "offline"\n'
    )
    found = problems(write(tmp_path, own), "agent.flow_steps=0", "checkpoint.kep=1", "seed")
    starts = (
        '--set: found "seed"',
        'mine.toml: plugins: plugin "not_there_at_all" is neither installed nor',
        'mine.toml: sede: unknown key; did you mean "seed"?',
        'mine.toml: schedul: unknown table; did you mean "schedule"?',
        "mine.toml: environment.task: found 0",
        'mine.toml: agent.method: unknown method "qam_fqi"; did you mean "qam_',
        "base.toml: agent.discount: found 1.5",
        'base.toml: agent.pessimist: unknown key; did you mean "pessimism"?',
        "--set: agent.flow_steps: found 0",
        'mine.toml: agent.batch_size: found "8"',
        "base.toml: evaluation.every: found 0",
        '--set: checkpoint.kep: unknown key; did you mean "keep"?',
    )
    assert len(found) == len(starts)
    for start in starts:
        assert sum(line.startswith(start) for line in found) == 1, start


def test_environment_and_source_are_both_reported(tmp_path):
    bad = VALID.replace("cube-double-play", "cube-duble-play")
    source = '[data]\nsource = "ogbench:cube-doble-play-v0"\n'
    assert problems(write(tmp_path, bad + source)) == [
        'mine.toml: environment.id: found "cube-duble-play"; did you mean "cube-double-play"?',
        'mine.toml: data.source: found "ogbench:cube-doble-play-v0"; '
        'did you mean "cube-double-play-v0"?',
    ]


def test_missing_keys_say_what_to_write(tmp_path):
    assert problems(write(tmp_path, "")) == [
        'mine.toml: environment.id: missing; write a string, e.g. "cube-quadruple-play"',
        "mine.toml: environment.task: missing; write an integer from 1 to 5, e.g. 2",
        "mine.toml: agent.method: missing; known: " + ", ".join(registry.agents.names()),
        "mine.toml: agent.horizon: missing; write a positive integer, e.g. 5",
        "mine.toml: agent.discount: missing; write a number from 0 to below 1, e.g. 0.99",
    ]


# Files that cannot be read


def test_a_syntax_error_has_line_and_column(tmp_path):
    (found,) = problems(write(tmp_path, "seed = 1\n[agent\n"))
    assert found.startswith("mine.toml: line 2, column 7: ")


def test_a_missing_file_suggests_a_near_one(tmp_path):
    write(tmp_path, VALID, "cube_qam.toml")
    (found,) = problems(tmp_path / "cube_qm.toml")
    assert found == 'cube_qm.toml: no such file; did you mean "cube_qam.toml"?'
    (found,) = problems(tmp_path / "nowhere" / "x.toml")
    assert "no such file, nor a folder" in found


def test_a_missing_base_suggests_a_near_one_and_own_keys_are_still_checked(tmp_path):
    write(tmp_path, VALID, "domains/c4.toml")
    file = write(tmp_path, 'extends = "domains/c5.toml"\n[agent]\nbatch_size = 0\n')
    assert problems(file) == [
        'mine.toml: extends: found "domains/c5.toml": no such file; did you mean "c4.toml"?',
        "mine.toml: agent.batch_size: found 0; write a positive integer, e.g. 256",
    ]


def test_a_base_extends_nothing(tmp_path):
    write(tmp_path, VALID, "one.toml")
    write(tmp_path, 'extends = "one.toml"\n', "two.toml")
    (found,) = problems(write(tmp_path, 'extends = "two.toml"\n'))
    assert found.startswith("two.toml: extends: only one level: mine.toml extends this file")


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("3", 'a path, e.g. "base.toml"'),
        ("[]", 'a list of paths, e.g. ["domain.toml", "method.toml"]'),
        ('["base.toml", 3]', 'a list of paths, e.g. ["domain.toml", "method.toml"]'),
    ],
)
def test_extends_is_a_path_or_a_list_of_them(tmp_path, written, wanted):
    (found,) = problems(write(tmp_path, f"extends = {written}\n" + VALID))
    assert found == f"mine.toml: extends: found {written}; write {wanted}"


def test_of_several_bases_the_later_wins_and_problems_name_their_file(tmp_path):
    write(tmp_path, VALID + "batch_size = 64\nflow_steps = 3\n", "domain.toml")
    write(tmp_path, "[agent]\nflow_steps = 4\nensemble_size = 2\n", "method.toml")
    both = 'extends = ["domain.toml", "method.toml"]\n'
    agent = load(write(tmp_path, both + "[agent]\nensemble_size = 3\n")).agent
    assert (agent.batch_size, agent.flow_steps, agent.ensemble_size) == (64, 4, 3)
    write(tmp_path, "[agent]\nflow_steps = 0\n", "method.toml")
    assert problems(write(tmp_path, both)) == [
        "method.toml: agent.flow_steps: found 0; write a positive integer, e.g. 10"
    ]
    write(tmp_path, 'extends = "domain.toml"\n', "method.toml")
    (found,) = problems(write(tmp_path, both))
    assert found.startswith("method.toml: extends: only one level: mine.toml extends this file")
    found, *_ = problems(write(tmp_path, 'extends = ["domain.toml", "metod.toml"]\n'))
    assert found == (
        'mine.toml: extends: found "metod.toml": no such file; did you mean "method.toml"?'
    )


SUITE = '[[group]]\nexperiments = ["../mine.toml"]\n'
READERS = {
    "experiment": (VALID, lambda file: load(file).agent.horizon, 5),
    "base": (VALID, lambda file: load(extending(file)).agent.horizon, 5),
    "suite": (SUITE, lambda file: len(load_suite(file)), 1),
    "cluster": ("gpus = 3\n", lambda file: load_cluster(file).gpus, 3),
    "finished run": (RUN, lambda file: studied(file).seed, 7),
    "listed": ("# A title\n" + VALID, lambda file: str(listing(file.parent)), "A title"),
}
"""Whatever reads a text that a user wrote: a text, its reader, and what is found (or among it)."""


def extending(file: Path) -> Path:
    return write(file.parent, f'extends = "{file.name}"\n', "extending.toml")


def studied(file: Path) -> Run:
    (file.parent / "evaluations.jsonl").write_text("")
    return read_run(file.rename(file.with_name("config.toml")).parent)


def saved(folder: Path, reader: str, change: Callable[[bytes], bytes]) -> Path:
    """A file for a reader, with its bytes changed."""
    write(folder, VALID)
    file = folder / ("suites" if reader == "suite" else "files") / "mine.toml"
    file.parent.mkdir()
    file.write_bytes(change(READERS[reader][0].encode()))
    return file


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: BOM_UTF8 + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: BOM_UTF8 + text.replace(b"\n", b"\r"),
    ],
    ids=["mark", "CRLF", "mark and CR"],
)
def test_text_is_read_however_an_editor_saves_utf_8(tmp_path, reader, change):
    _, read, wanted = READERS[reader]
    found = read(saved(tmp_path, reader, change))
    assert found == wanted or wanted in str(found)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "listed"])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.decode().encode("utf-16"), "it is in UTF-16, as PowerShell's > writes"),
        (lambda text: text.decode().encode("utf-32"), "it is in UTF-32; save it as UTF-8"),
        (
            lambda text: text.decode().encode("utf-16-le"),
            "a NUL byte in line [12]; save it as UTF-8",
        ),
        (lambda text: b"\n# caf\xe9\n" + text, "byte 0xe9 in line 2; save it as UTF-8"),
        (lambda text: text + b"\0", "a NUL byte in line "),
    ],
    ids=["UTF-16", "UTF-32", "UTF-16 without a mark", "Latin-1", "NUL"],
)
def test_what_is_no_utf_8_says_so(tmp_path, reader, change, found):
    file = saved(tmp_path, reader, change)
    with pytest.raises(UserError) as caught:
        READERS[reader][1](file)
    (line,) = str(caught.value).splitlines()
    assert re.search(rf"(mine|config)\.toml: not a UTF-8 text file: {found}", line)


def test_files_that_are_no_text_are_listed_without_a_comment(tmp_path):
    write(tmp_path, VALID, "good.toml")
    (tmp_path / "utf16.toml").write_bytes(VALID.encode("utf-16"))
    (tmp_path / "folder.toml").mkdir()
    assert "utf16" in str(listing(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder.toml", "folder.toml: cannot be read (Is a directory)"),
        ("a" * 300, "cannot be read (File name too long)"),
        ("nul.toml", "extends: found"),
    ],
)
def test_names_that_no_text_has_are_one_line(tmp_path, name, said):
    (tmp_path / "folder.toml").mkdir()
    write(tmp_path, 'extends = "a\\u0000b"\n' + VALID, "nul.toml")
    (found,) = problems(tmp_path / name)
    assert said in found


@pytest.mark.parametrize("method", ["read_bytes", "stat"])
def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, method):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = write(tmp_path, VALID)
    monkeypatch.setattr(Path, method, refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert problems(file) == ["mine.toml: cannot be read (Permission denied)"]


# Registry and plugins


def entries() -> Registry:
    mine = Registry("method")
    mine.register("one", settings=QAMSettings, builder="a:b", summary="")
    return mine


def test_a_taken_name_is_refused_and_the_same_again_is_not():
    mine = entries()
    mine.register("one", settings=QAMSettings, builder="a:b", summary="again")
    with pytest.raises(RegistryError, match='method "one" is taken by a:b'):
        mine.register("one", settings=QAMSettings, builder="a:c", summary="")
    assert [entry.summary for entry in mine] == ["again"]


def test_an_unknown_name_suggests_a_near_one():
    with pytest.raises(RegistryError, match='unknown method "oen"; did you mean "one"'):
        entries()["oen"]


def test_entries_import_when_asked():
    assert registry.agents["qam_edit"].load_settings() is QAMEditSettings
    mine = entries()
    mine.register("two", settings=QAMSettings, builder="qamx.config:load", summary="")
    assert mine["two"].load_builder() is load


PLUGIN = """
from pydantic import Field
from qamx import registry
from qamx.config import AgentSettings, InverseTemperature

class Mine(AgentSettings):
    method: str = "mine"
    bc_weight: float = Field(gt=0)
    heat: InverseTemperature

registry.register_agent("mine", settings=Mine, builder="nowhere:build", summary="A method of mine")
"""
MINE = VALID.replace('"qam"', '"mine"').replace("inverse_temperature", "bc_weight = 2\nheat")


def qamx(folder: Path, *arguments: str, path: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qamx", *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{path}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("place", ["here", "there"], ids=["current directory", "file's folder"])
def test_a_plugin_named_in_the_file(tmp_path, place):
    write(tmp_path, PLUGIN, f"{place}/my_plugin.py")
    file = write(tmp_path, 'plugins = ["my_plugin"]\n' + MINE, "there/mine.toml")
    (tmp_path / "here").mkdir(exist_ok=True)
    shown = qamx(tmp_path / "here", "show", str(file))
    assert shown.returncode == 0, shown.stderr
    agent = tomli.loads(shown.stdout)["agent"]
    assert (agent["method"], agent["bc_weight"], agent["heat"]) == ("mine", 2.0, 1.0)
    bad = qamx(tmp_path / "here", "show", str(file), "--set", "agent.bc_weight=0", "agent.heat=0")
    assert bad.returncode == 2
    assert bad.stderr.splitlines() == [
        "--set: agent.bc_weight: found 0; Input should be greater than 0",
        "--set: agent.heat: found 0; write a positive number, "
        'or a table such as { schedule = "linear", ... }',
    ]


def test_a_plugin_of_an_installed_package(tmp_path):
    site = tmp_path / "site"
    write(site, PLUGIN, "my_plugin.py")
    write(site, "[qamx.plugins]\nmy = my_plugin\n", "mine-1.dist-info/entry_points.txt")
    write(site, "Metadata-Version: 2.1\nName: mine\nVersion: 1\n", "mine-1.dist-info/METADATA")
    file = write(tmp_path, MINE)
    assert qamx(tmp_path, "check", str(file), path=site).stdout == f"ok {file}\n"
    assert "A method of mine" in qamx(tmp_path, "list", path=site).stdout


def test_settings_build_their_object_unless_a_builder_is_registered():
    class Built(AgentSettings):
        method: str = "built"

        def build(self, parts, key) -> Any:
            return "by its settings"

    mine = Registry("method")
    settings = Built(horizon=1, discount=0.9)
    mine.add("own", "")(Built)
    mine.register("plain", settings=Built, summary="")
    mine.register("other", settings=Built, builder=lambda settings: settings.method, summary="")
    assert mine.build("own", settings, None, None) == "by its settings"
    assert mine.build("plain", settings, None, None) == "by its settings"
    assert mine.build("other", settings) == "built"
    mine.register("none", settings=AgentSettings, summary="")
    with pytest.raises(RegistryError, match="no method `build`; write one, or register a builder"):
        mine.build("none", settings, None, None)
    with pytest.raises(RegistryError, match='method "own" is taken by'):
        mine.register("own", settings=QAMSettings, summary="")


def test_a_plugin_that_fails_says_how(tmp_path):
    write(tmp_path, "import a_module_it_lacks\n", "my_broken_plugin.py")
    write(tmp_path, "import sys\nsys.exit()\n", "my_leaving_plugin.py")
    names = '"my_broken_plugin", "my_brokn_plugin", "my_leaving_plugin"'
    found = problems(write(tmp_path, f"plugins = [{names}]\n" + VALID))
    assert found[2].endswith("does not import: RuntimeError: it called sys.exit(None)")
    assert found[0] == (
        'mine.toml: plugins: plugin "my_broken_plugin" does not import: '
        "ModuleNotFoundError: No module named 'a_module_it_lacks'"
    )
    assert found[1].endswith('did you mean "my_broken_plugin"?')


def test_a_plugin_may_not_take_a_name(tmp_path):
    taken = "from qamx import registry\nregistry.register_agent('qam', settings='a:b', "
    write(tmp_path, taken + "builder='a:b', summary='')\n", "my_taking_plugin.py")
    (found,) = problems(write(tmp_path, 'plugins = ["my_taking_plugin"]\n' + VALID))
    assert 'RegistryError: method "qam" is taken by ' in found


def test_the_methods_that_clip_gradients():
    clips = {"qam", "qam_fql", "qam_edit", "trqam", "trqam_edit", "preflow", "bam", "qsm", "dac"}
    for entry in registry.agents:
        default = entry.load_settings().model_fields["gradient_clip"].default
        assert default == (1.0 if entry.name in clips else "none"), entry.name


# The reference page


def models(of: Registry) -> dict[str, type[BaseModel]]:
    return {f"{of.kind} {entry.name}": entry.load_settings() for entry in of}


def test_the_reference_names_every_key():
    page = (ROOT / "docs" / "experiments.md").read_text()
    registries = (
        registry.agents,
        registry.schedules,
        registry.environments,
        registry.datasets,
        registry.temperatures,
    )
    for name, model in {k: v for one in registries for k, v in models(one).items()}.items():
        missing = [key for key in model.model_fields if f"| `{key}` |" not in page]
        assert set(missing) <= {"schedule"}, name  # a table's selector, the head of its column
    quickstart = experiment("quickstart")
    for section in ("evaluation", "checkpoint", "logging", "compute"):
        for key in type(getattr(quickstart, section)).model_fields:
            assert f"| `{section}.{key}` |" in page


def test_the_reference_has_every_own_key_of_a_method_under_its_name():
    """A method's keys stand in a table below a line that names the method."""
    page = (ROOT / "docs" / "experiments.md").read_text()
    agent = page.partition("### `[agent]`")[2].partition("### `[schedule]`")[0]
    tables = re.findall(r"^(`[^\n]*):\n\n((?:\|[^\n]*\n)+)", agent, re.MULTILINE)
    common = AgentSettings.model_fields
    for entry in registry.agents:
        under = "".join(table for head, table in tables if f"`{entry.name}`" in head)
        own = entry.load_settings().model_fields.keys() - common.keys()
        assert {key for key in own if f"| `{key}` |" not in under} == set(), entry.name


# What stands in two places because one of them must not import JAX


def test_the_solvers_of_the_format_are_those_of_the_flow_layer():
    from qamx.config.agents import Solver
    from qamx.flow import SOLVERS

    assert set(get_args(Solver)) == set(SOLVERS)


def test_every_set_that_can_be_generated_can_be_named():
    from qamx.data.ogbench.catalogue import DOMAIN_OF, dataset_names

    assert set(dataset_names()) <= set(DOMAIN_OF)


def test_shards_are_not_generated_on_the_way(tmp_path):
    source = 'source = "ogbench:cube-double-play-100m-v0"\nupdates_per_shard = 10'
    (found,) = problems(write(tmp_path, f"{VALID}\n[data]\n{source}\ngenerate_episodes = 3\n"))
    assert "data.generate_episodes: found 3" in found
    assert "qamx data generate" in found


# Several mistakes at once


def test_a_method_that_is_unknown_hides_no_other_mistake(tmp_path):
    text = """
[environment]
id = "pointmaze-medium-navigate"
task = 1
[agent]
method = "qqam"
horizon = 5
discount = 0.99
horizn = 5
edit_scale = -1.0
[schedule]
kind = "offlin"
offline_steps = -5
"""
    assert problems(write(tmp_path, text)) == [
        'mine.toml: agent.method: unknown method "qqam"; did you mean "qam"?',
        'mine.toml: agent.horizn: unknown key; did you mean "horizon"?',
        "mine.toml: agent.edit_scale: found -1.0; write a number above 0, at most 2, e.g. 0.1",
        'mine.toml: schedule.kind: unknown schedule "offlin"; did you mean "offline"?',
        "mine.toml: schedule.offline_steps: found -5; write a positive integer, e.g. 1000000",
    ]


def test_keys_of_a_base_that_do_not_apply_are_told_of_the_file_that_extends_it(tmp_path):
    text = 'extends = "quickstart.toml"\n[environment]\nid = "gymnasium:robot:Reach"\n'
    (found,) = problems(write(tmp_path, text))
    assert found.startswith("mine.toml: environment: ")
    assert 'its task does not apply to id = "gymnasium:robot:Reach"; leave extends out' in found
    change = VALID.replace('method = "qam"', 'method = "qam_edit"\nedit_scale = 0.1')
    write(tmp_path, change, "base.toml")
    own = 'extends = "base.toml"\n[agent]\nmethod = "qam"\nqam = 1\n'
    mine, joined = problems(write(tmp_path, own))
    assert mine.startswith("mine.toml: agent.qam: unknown key; ")
    assert "base.toml is extended, and its edit_scale does not apply to method" in joined


def test_the_example_of_a_method_works_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.agents, "_own", dict(registry.agents._entries))
    monkeypatch.setitem(sys.modules, "own_method", sys)  # restored, that is removed, at the end
    del sys.modules["own_method"]
    for name in ("own_method.py", "own_method.toml"):
        shutil.copy(ROOT / "docs" / "examples" / name, tmp_path)
    assert load(tmp_path / "own_method.toml").environment.id == "pointmaze-medium-navigate"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("", "ok {} (1 environment tried)\n"),
        ("environment.id=gymnasium:no_such_module:Reach", ""),
        ("environment.observation_keys=['arm']", ""),
    ],
)
def test_a_deep_check_makes_the_environment(tmp_path, capsys, change, expected):
    lines = load(ROOT / "docs/examples/own_data.toml", [change] if change else []).to_toml()
    file = write(tmp_path, lines)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"ok {file} (environment not tried; --deep tries it)\n"
    assert main(["check", "--deep", str(file)]) == (0 if expected else 2)
    told = capsys.readouterr()
    assert told.out == expected.format(file)
    assert bool(told.err) != bool(expected)


def test_a_builder_with_another_signature_is_one_message():
    mine = entries()
    mine.register("narrow", settings=QAMSettings, builder=lambda settings: None, summary="")
    own = load(ROOT / "experiments" / "c4_qam.toml").agent
    with pytest.raises(RegistryError, match=r'"narrow": the builder .* is called with its setti'):
        mine.build("narrow", own, 3, "x")
    assert mine.build("narrow", own) is None

"""The command: what it prints, how it exits, and that it answers without the heavy imports."""

import argparse
import ast
import importlib
import inspect
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from qamx import registry
from qamx.cli import build_parser, listing, main

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "experiments" / "quickstart.toml")
HEAVY = ("jax", "jaxlib", "numpy", "equinox", "diffrax", "ogbench", "wandb", "orbax", "mujoco")


def loaded_after(command: str) -> set[str]:
    """The top-level modules that `main` has imported when the command is done."""
    code = f"""
import sys
from qamx.cli import main
try:
    main({command!r}.split())
except SystemExit:
    pass
print("loaded:", *{{name.partition(".")[0] for name in sys.modules}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "run --help",
        "check experiments/quickstart.toml experiments/c4_qam_edit.toml",
        "check experiments/none.toml",
        "run experiments/none.toml",
        "run experiments/quickstart.toml --set agent.method=qan",
        "diff runs/none runs/none",
        "bench --help",
        "data inspect --help",
        "inspect --help",
        "sweep experiments/suites/reproduction.toml --dry-run",
        "status runs/none",
        "show experiments/c4_qam_fql.toml",
        "list",
        "list methods",
    ],
)
def test_answers_without_heavy_imports(command):
    assert loaded_after(command).isdisjoint(HEAVY)


def test_help_needs_no_pydantic():
    assert loaded_after("--help").isdisjoint({"pydantic", "tomli", "rich"})


INTERRUPTS = {
    "raised": "raise KeyboardInterrupt",
    "sent": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    # As extension modules do.
    "turned": "import os, signal\n"
    "try: os.kill(os.getpid(), signal.SIGINT)\n"
    "except BaseException: raise ImportError('while initializing')",
    # As in a callback of JAX's at each collection of garbage, which Python lets pass.
    "ignored": "import gc, os, signal, time\n"
    "gc.callbacks.append(lambda *_: (gc.callbacks.clear(), os.kill(os.getpid(), signal.SIGINT)))\n"
    "def __getattr__(name): gc.collect(); time.sleep(5)",
}


@pytest.mark.parametrize("how", INTERRUPTS)
@pytest.mark.parametrize("module", ["argparse", "jax"])
def test_ctrl_c_during_imports_is_one_line(tmp_path, module, how):
    if (module, how) == ("argparse", "ignored"):
        how = "sent"
    (tmp_path / f"{module}.py").write_text(INTERRUPTS[how])
    command = [sys.executable, "-m", "qamx", "bench", "--size", "tiny"]
    paths = os.pathsep.join([str(tmp_path), str(ROOT), *sys.path])
    surroundings = os.environ | {"PYTHONPATH": paths}
    # A shell's background jobs, in which this test may run, do not hear the signal otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.stderr, done.returncode) == ("interrupted\n", 130)


def test_a_message_is_printed_once_whatever_a_dependency_logs(tmp_path):
    command = "import logging; logging.basicConfig(); from qamx.__main__ import main; main()"
    arguments = ["data", "generate", "pointmaze-medium-navigate", "--episodes", "1"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments, "--directory", str(tmp_path), "--workers", "1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "pointmaze-medium-navigate-v0.npz: 1,000 transitions" in done.stdout
    assert "npz" not in done.stderr


def test_all_experiments_are_checked_at_once(capsys):
    files = [str(file) for file in sorted((ROOT / "experiments").glob("*.toml"))]
    assert main(["check", *files]) == 0
    assert capsys.readouterr().out.splitlines() == [f"ok {file}" for file in files]


def test_help_shows_each_command_and_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "run train and evaluate the policy of an experiment",
        "check validate experiment and suite files",
        "show print an experiment with every default, as TOML",
        "list list methods, environments, experiments and suites",
        "data make, download and inspect data sets",
        "inspect inspect a run's policy, and report what is unhealthy",
        "eval evaluate a run's latest checkpoint (safe during training)",
        "doctor check this machine's setup, and suggest fixes",
        "qamx run quickstart",
    ):
        assert line in lines


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands."""
    groups = [a.choices for a in parser._actions if isinstance(a.choices, dict)]
    for group in groups:
        for child in group.values():
            yield from leaves(child)
    if not groups:
        yield parser


def keywords_of(function: Callable[..., Any]) -> tuple[set[str], bool]:
    """The parameters of a function by name, and whether it passes others on."""
    parameters = inspect.signature(function).parameters.values()
    names = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    return names, len(names) < len(parameters)


def function_behind(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function to which a handler passes its options on, `f(**options)`."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(handler))))
    (call,) = (
        node
        for node in nodes
        if isinstance(node, ast.Call) and any(word.arg is None for word in node.keywords)
    )
    assert isinstance(call.func, ast.Name)
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    return getattr(importlib.import_module(str(homes[call.func.id])), call.func.id)


@pytest.mark.parametrize("parser", leaves(build_parser()), ids=lambda parser: parser.prog)
def test_each_option_is_a_parameter_of_the_function_that_the_command_calls(parser):
    options = {action.dest for action in parser._actions} - {"help", "jax_device"}  # main's own
    handler = parser.get_default("handler")
    if isinstance(handler, str):
        assert options <= keywords_of(resolve_name(handler))[0]
        return
    named, passes_on = keywords_of(handler)
    assert named <= options
    passed_on = options - named
    assert not passed_on or passed_on <= keywords_of(function_behind(handler))[0]
    assert passes_on == bool(passed_on)


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("qamx ")


def test_check_reports_every_file(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text("seed = -1\n[agnt]\nx = 1\n")
    one, two = (str(tmp_path / f"{name}.toml") for name in ("one", "two"))
    assert main(["check", one, QUICKSTART, two]) == 2
    output = capsys.readouterr()
    assert output.out == f"ok {QUICKSTART}\n"
    for file in (one, two):
        assert f'{file}: agnt: unknown table; did you mean "agent"?' in output.err.splitlines()
        assert (
            f"{file}: seed: found -1; write an integer from 0 to 4294967295, e.g. 10001"
            in output.err
        )


def test_show_resolves(capsys, tmp_path):
    assert main(["show", QUICKSTART, "--set", "agent.horizon=3", "--seed", "7"]) == 0
    text = capsys.readouterr().out
    assert "horizon = 3\n" in text
    assert "seed = 7\n" in text
    copy = tmp_path / "copy.toml"
    copy.write_text(text)
    assert main(["show", str(copy)]) == 0
    assert capsys.readouterr().out == text


def test_show_of_a_broken_file_is_one_message(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.toml")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"{tmp_path / 'none.toml'}: no such file\n"


def test_list_names_everything(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = dict(line.strip().split("  ", 1) for line in lines if line.startswith("  "))
    assert {"qam", "qam_fql", "qam_edit", "offline", "ogbench", "linear"} <= rows.keys()
    assert rows["experiments/al_qam.toml"].strip() == "qam on antmaze-large-navigate"
    assert rows["experiments/c4_qam_edit.toml"].strip() == (
        "qam_edit on cube-quadruple-play, data ogbench:cube-quadruple-play-100m-v0"
    )
    assert rows["experiments/quickstart.toml"].strip().startswith("Quickstart: QAM on a point maze")


def listed(capsys, *words):
    """The sections of `qamx list WORDS`, each with its rows."""
    assert main(["list", *words]) == 0
    sections, rows = {}, []
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            rows.append(line.strip())
        else:
            rows = sections.setdefault(line.removesuffix(":"), [])
    return sections


def test_list_takes_a_kind_and_texts(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = listed(capsys, "experiments", "dsrl", "CUBE-triple")
    assert found == {"experiments that come with qamx": ["c3_dsrl  dsrl on cube-triple-play"]}
    found = listed(capsys, "environments", "cube-d")
    assert [row.split() for row in found.pop("domains")] == [["c2", "cube-double-play"]]
    assert list(listed(capsys, "suites")) == ["suites that come with qamx"]
    assert set(listed(capsys, "table1")) == {"suites that come with qamx"}


def test_list_shows_the_domains_of_each_method(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    for file in ("c3_mine.toml", "c5_mine.toml"):
        (tmp_path / "experiments" / file).write_text("")
    own = [*registry.agents, registry.RegistryEntry("mine", "", None, "my own")]
    monkeypatch.setattr(listing, "REGISTRIES", {"methods": ("methods", own)})
    found = listed(capsys, "methods")
    rows = [row.split() for row in found["experiments, DOMAIN_METHOD"]]
    of_method = {method: codes for method, *codes in rows}
    codes = [row.split()[0] for row in found["domains"]]
    assert (of_method["qam"], of_method["mine"]) == (codes, ["c3"])
    assert len(codes) == 10
    assert [row[0] for row in rows] == [entry.name for entry in own]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["suites", "zzz", "y"], 'none of the suites contains "zzz y"'),
        (["suits"], 'nothing contains "suits"; did you mean "suites"?'),
    ],
)
def test_a_list_of_nothing_is_one_message(capsys, words, said):
    assert main(["list", *words]) == 2
    assert capsys.readouterr() == ("", f"qamx list: {said}\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trqam", "trqam is a method, with the experiments ag_trqam, al_trqam, c2_trqam, "),
        ("c3", "c3 is the domain cube-triple-play, with c3_bam, c3_cgql, "),
    ],
)
def test_the_name_of_a_method_or_a_domain_shows_its_experiments(capsys, name, said):
    assert main(["show", name]) == 2
    assert (
        f"{name}: no such file, nor an experiment of that name; {said}" in capsys.readouterr().err
    )


@pytest.fixture
def runner(monkeypatch):
    """A stand-in for the runner that notes what it is given."""
    calls = []

    def run(experiment, out):
        calls.append((experiment, out))
        return 0

    monkeypatch.setitem(sys.modules, "qamx.running", types.SimpleNamespace(run=run))
    return calls


def test_run_hands_over_the_experiment(runner):
    changes = ["--set", "agent.horizon=3", "agent.batch_size=8", "--set", "environment.task=2"]
    assert main(["run", QUICKSTART, *changes, "--seed", "5", "--wandb", "offline"]) == 0
    ((experiment, out),) = runner
    assert (experiment.agent.horizon, experiment.agent.batch_size) == (3, 8)
    assert (experiment.environment.task, experiment.seed) == (2, 5)
    assert experiment.logging.wandb == "offline"
    assert out == Path("runs/quickstart-task2-seed5")


def test_run_takes_a_folder(runner):
    assert main(["run", QUICKSTART, "--out", "elsewhere"]) == 0
    assert runner[0][1] == Path("elsewhere")


def test_ctrl_c_is_one_line_and_130(monkeypatch, capsys):
    def interrupted(experiment, out):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "qamx.running", types.SimpleNamespace(run=interrupted))
    assert main(["run", QUICKSTART]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_data_generate_hands_over_its_options(monkeypatch):
    calls = []

    def generate(name, **options):
        calls.append((name, options))

    module = types.SimpleNamespace(generate=generate)
    monkeypatch.setitem(sys.modules, "qamx.data.ogbench.generate", module)
    given = {"--episodes": "3", "--shards": "2", "--seed": "1", "--workers": "4"}
    words = [word for pair in given.items() for word in pair]
    words += ["--directory", "there", "--overwrite"]
    assert main(["data", "generate", "cube-double-play", *words]) == 0
    assert main(["data", "generate", "scene-play"]) == 0
    full = {"episodes": 3, "shards": 2, "seed": 1, "workers": 4, "directory": Path("there")}
    bare = {"episodes": None, "shards": None, "seed": 0, "workers": None, "directory": None}
    assert calls == [
        ("cube-double-play", {**full, "overwrite": True}),
        ("scene-play", {**bare, "overwrite": False}),
    ]


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m qamx list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
    assert done.stderr == ""


def test_the_bare_command_prints_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == build_parser().format_help()


@pytest.mark.parametrize("arguments", [["runn", "x"], ["run"], ["data"]])
def test_a_wrong_command_line_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: qamx" in capsys.readouterr().err

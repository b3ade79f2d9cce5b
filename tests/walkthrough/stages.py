"""What a page takes for granted: data and runs that are there, a server, a mistake in a file."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli
from fake_runs import complete_run
from file_server import FileServer, archive
from pages import ROOT
from synthetic import seeds_like, write_run, write_seeds

from qamx.config import load_suite
from qamx.data.ogbench.catalogue import remote_files
from qamx.tools.results.published_results import published

if TYPE_CHECKING:
    from walker import Walk

OFFLINE_END = 1_000_000
RECORDS = (
    "evaluation.every=20 evaluation.episodes=2 evaluation.environments=2 evaluation.workers=0 "
    "checkpoint.every=20 logging.every=10"
)
SHORT = (
    f"schedule.offline_steps=40 schedule.online_steps=20 schedule.online_warmup=5 {RECORDS} "
    "data.generate_episodes=3"
)
"""What makes a run of the quickstart short."""

# In the place of a line


def named_extras(walk: "Walk", line: str) -> None:
    """The extras of a `pip install` are the project's."""
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    target = re.fullmatch(r'pip install (?:-e )?"?(?:\.|qamx)(?:\[([\w,]+)\])?"?', line)
    assert target, line
    extras = set(target[1].split(",")) if target[1] else set()
    assert extras <= project["optional-dependencies"].keys(), line


def named_sessions(walk: "Walk", line: str) -> None:
    """The sessions of a `nox -s` are the noxfile's."""
    there = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert set(line.removeprefix("nox -s ").split()) <= set(there), line


def requeues(walk: "Walk", script: str) -> None:
    """The script puts its job back into the queue if the run ends with 75."""
    commands, asked = walk.folder / "commands", walk.folder / "asked"
    commands.mkdir()
    for name, text in (("qamx", "exit 75"), ("scontrol", f'echo "$@" > {asked}')):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "SLURM_JOB_ID": "17"}
    subprocess.run(["bash", "-c", script], env=environment, check=True)
    assert asked.read_text() == "requeue 17\n"


def one_evaluation(walk: "Walk", line: str) -> None:
    """The first of the environments, two episodes of it."""
    short = "--episodes 2 --players 2 --set agent.actor_hidden=[16,16]"
    status = walk.execute(f"{line.partition('cube-')[0]} cube-double-play {short}")
    assert status == 0, walk.read()


def made_anew(walk: "Walk", line: str) -> None:
    """What a page installs for an exported policy is what `nox -s deploy` installs."""
    script = (ROOT / "tests" / "deploy" / "fresh.py").read_text()
    for word in shlex.split(line)[2:]:
        assert f'"{word}"' in script or word.endswith(".whl"), word


def served(walk: "Walk", line: str) -> None:
    """The server of a page, at a port of its own, until the page has ended."""
    command = [sys.executable, *shlex.split(line)[1:3], "--port", "0", "--budget-ms", "5000"]
    server = walk.exits.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    walk.exits.callback(server.terminate)
    assert server.stdout is not None
    walk.names["port"] = server.stdout.readline().split()[-1]


def client(walk: "Walk", line: str) -> str:
    """The client, at the server's port."""
    words = shlex.split(line)[1:]
    command = [sys.executable, *words, "--port", walk.names["port"]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def watched(walk: "Walk", line: str) -> None:
    """The page is served, at a port of its own, until Ctrl-C."""
    command = [sys.executable, "-m", *shlex.split(line, comments=True), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://localhost:")
        server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def one_latency(walk: "Walk", line: str) -> None:
    """A method of the tiny size."""
    script = line.partition(" --")[0]
    assert walk.execute(f"{script} --method fql --size tiny") == 0, walk.read()


def one_comparison(walk: "Walk", line: str) -> None:
    """The tiny size, of this checkout on both sides."""
    command = f"python benchmarks/beside.py {ROOT} {ROOT} --size tiny --method qam --rounds 1"
    assert walk.execute(command) == 0, walk.read()


def options_of_a_script(walk: "Walk", line: str) -> None:
    """The script has the line's options."""
    words = shlex.split(line, comments=True)[1:]
    command = [*takewhile(lambda word: not word.startswith("--"), words), "--help"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {word for word in words if word.startswith("--")} <= set(
        re.findall(r"--\w+", done.stdout)
    )


# Before a page


def a_server(walk: "Walk") -> None:
    """OGBench's files, small, on a server of this machine, which the commands are told of."""
    server = FileServer()
    walk.exits.callback(server.close)
    sets = (("antmaze-large-navigate", None), ("cube-double-play", None))
    for name, shards in (*sets, ("cube-quadruple-play-100m", 10)):
        for file in remote_files(name, shards):
            server.files[file] = archive(len(server.files), rows=100)
    os.environ["QAMX_MIRROR"] = server.url


def sets_to_inspect(walk: "Walk") -> None:
    """Small sets, one of them with an entry out of scale and actions that were clipped."""
    for line in (
        "cube-double-play --episodes 10",
        "cube-quadruple-play --shards 3 --episodes 1",
        "pointmaze-medium-navigate --episodes 3",
        "pointmaze-medium-navigate --episodes 3 --directory data/quickstart",
    ):
        assert walk.execute(f"qamx data generate {line}") == 0, walk.read()
    quickstart = walk.folder / "experiments" / "quickstart.toml"
    quickstart.write_text(quickstart.read_text().replace("episodes = 200", "episodes = 3"))
    file = walk.folder / "data" / "cube-double-play-v0.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["observations"][:, 17] *= 200
    arrays["actions"][:, :3] = np.clip(4 * arrays["actions"][:, :3], -1, 1)
    np.savez(file, **arrays)
    walk.read()


def runs_to_report(walk: "Walk") -> None:
    """Two methods on two domains, drawn from published figures; one wins less than published."""
    for folder, method in (("mine", "qam_fql"), ("theirs", "qam")):
        for domain in ("cube-double-play", "scene-play"):
            for task in range(1, 6):
                _draw(walk.folder / "runs" / folder, method, domain, task)


def runs_of_a_table(walk: "Walk") -> None:
    """Two methods on a domain in the folder of a sweep."""
    for method in ("qam", "qam_fql"):
        for task in range(1, 6):
            _draw(walk.folder / "runs" / "table1", method, "scene-play", task)


def _draw(folder: Path, method: str, domain: str, task: int) -> None:
    lost = 0.2 if method == "qam_fql" and domain == "cube-double-play" and task in (1, 3) else 0.0
    figure = published()[method, f"{domain} task {task}", OFFLINE_END]
    ends = seeds_like(figure, f"{method}/{domain}")[1::3]
    rates = [{200_000: end / 2, OFFLINE_END: max(0.0, end - lost)} for end in map(float, ends)]
    write_seeds(folder, rates, method, domain, task)


def two_short_runs(walk: "Walk") -> None:
    """A suite of two short runs in the place of the quickstart's 57."""
    suite = '[suite]\nseeds = [10001]\n[[group]]\nexperiments = ["../quickstart.toml"]\n'
    changes = ", ".join(f'"{change}"' for change in SHORT.split())
    variants = "".join(f'[[group.variants]]\nname = "t{n}"\n' for n in (1, 2))
    walk.write("experiments/suites/quickstart.toml", f"{suite}set = [{changes}]\n{variants}")


def swept(walk: "Walk") -> None:
    """The two runs to sweep, a tuning sweep and a sweep of cubes that are complete."""
    two_short_runs(walk)
    a_sweep_of_cubes(walk)
    suites = walk.folder / "experiments" / "suites"
    shutil.copy(suites / "tune_fql.toml", suites / "tuning.toml")
    for index, run in enumerate(load_suite(suites / "tuning.toml").runs()):
        complete_run(walk.folder / "runs" / "tuning" / run.name, index / 100, total=1_000_000)


def a_sweep_of_cubes(walk: "Walk") -> None:
    """The runs of the page's suite, complete, with the published success."""
    suite = walk.folder / "experiments" / "suites" / "cubes.toml"
    for run in load_suite(suite).runs():
        experiment = run.load()
        domain, label = experiment.environment.name, experiment.environment.label
        task = int(label.removeprefix("task"))
        figure = published()[experiment.agent.method, f"{domain} task {task}", OFFLINE_END]
        write_run(
            walk.folder / "runs" / "cubes" / run.name,
            {OFFLINE_END: figure.mean},
            method=experiment.agent.method,
            domain=domain,
            task=task,
            seed=run.seed,
            name=experiment.name,
        )


def a_benchmark(walk: "Walk") -> None:
    """The stored runs in the place of the benchmark's."""
    runs = walk.folder / "runs"
    shutil.unpack_archive(walk.folder / "docs/assets/cpu_benchmark.tar.gz", runs, filter="data")
    (runs / "cpu_published").rename(runs / "cpu")


def a_slice(walk: "Walk") -> None:
    """One method of one domain in the suite, and runs of all its tasks to compare."""
    suite = walk.folder / "experiments" / "suites" / "reproduction.toml"
    head = suite.read_text().partition("[[group]]")[0]
    group = 'experiments = ["../c2_fql.toml"]\ntasks = [2]\nseeds = [10001, 20002]\n'
    suite.write_text(f"{head}[[group]]\n{group}")
    for task in range(1, 6):
        steps = {50_000: 0.1, 100_000: 0.3, 150_000: 0.4, 200_000: 0.5}
        write_seeds(walk.folder / "runs" / "slice", [steps] * 4, "fql", "cube-double-play", task)


def a_short_run(walk: "Walk") -> None:
    """The quickstart's run, short, and copies of it under the other names of the page."""
    line = f"qamx run experiments/quickstart.toml --set {SHORT}"
    assert walk.execute(line) == 0, walk.read()
    walk.read()
    runs = walk.folder / "runs"
    for other in ("offline_end", "c2_qam-task1-seed10001"):
        shutil.copytree(runs / "quickstart-task1-seed10001", runs / other)


def two_runs(walk: "Walk") -> None:
    """Two short runs that were given different things."""
    shared = (
        "schedule.offline_steps=30 schedule.online_warmup=5 evaluation.every=60 "
        "checkpoint.every=10 "
        "evaluation.episodes=2 evaluation.environments=2 evaluation.workers=0 logging.every=10 "
        "agent.actor_hidden=[16,16] agent.critic_hidden=[16,16] data.generate_episodes=3"
    )
    for name, tau, steps in (("one", 1.0, 30), ("other", 2.0, 20)):
        own = f"agent.inverse_temperature={tau} schedule.online_steps={steps}"
        line = f"qamx run experiments/quickstart.toml --out runs/{name} --set {shared} {own}"
        assert walk.execute(line) == 0, walk.read()
    walk.read()


# What a page shows without a command of its own


def interrupted(walk: "Walk") -> str:
    """The quickstart, told once to stop."""
    place = walk.folder / "elsewhere"
    place.mkdir()
    (place / "data").symlink_to(walk.folder / "data")
    command = [
        sys.executable,
        "-m",
        "qamx",
        "run",
        str(walk.folder / "experiments/quickstart.toml"),
    ]
    run = subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics = place / "runs" / "quickstart-task1-seed10001" / "metrics.jsonl"
    end = time.monotonic() + 300
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end:
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    printed, _ = run.communicate(timeout=120)
    assert run.returncode == 75, printed
    return printed


def another_configuration(walk: "Walk") -> str:
    """The quickstart with other keys in the folder of its run."""
    line = "qamx run experiments/quickstart.toml --set agent.batch_size=64 agent.learning_rate=3e-4"
    assert walk.execute(line) == 2
    return walk.read()


def mistakes_of_a_suite(walk: "Walk") -> str:
    """The page's suite with a pattern that matches nothing and a key that there is not."""
    good = (walk.folder / "experiments/suites/mine.toml").read_text()
    bad = good.replace("flow_steps=3", "flow_step=3")
    file = walk.write("experiments/suites/mine.toml", bad)
    assert walk.execute("qamx check experiments/suites/mine.toml") == 2
    keys = walk.read()
    file.write_text(bad + '\n[[group]]\nexperiments = ["../c5_*.toml"]\n')
    assert walk.execute("qamx check experiments/suites/mine.toml") == 2
    file.write_text(good)
    return walk.read() + keys


def mistakes(walk: "Walk") -> str:
    """An experiment in which much is wrong."""
    base = (walk.folder / "experiments/domains/c4.toml").read_text()
    walk.write("experiments/domains/mine.toml", re.sub(r"discount = \S+", "discount = 1.0", base))
    changed = 'evalution = { every = 10 }\nextends = "domains/mine.toml"\n'
    tables = (
        '[environment]\nid = "cube-quadrupel-play"\n'
        '[agent]\nmethod = "qam_edit"\ninverse_temperature = 3.0\nedit_scale = 0.1\n'
        'batch_size = "256"\n'
    )
    walk.write("experiments/mine.toml", changed + tables)
    assert walk.execute("qamx run experiments/mine.toml --set agent.edit_scal=0.3") == 2
    return walk.read()


def mistakes_of_a_cluster(walk: "Walk") -> str:
    """A cluster's file with a time in other words and a key that there is not."""
    file = walk.folder / "cluster.toml"
    good = file.read_text()
    file.write_text(good.replace("12:00:00", "12h").replace("gpus = 1", "gpu = 1"))
    suite = "experiments/suites/quickstart.toml"
    assert walk.execute(f"qamx sweep {suite} --on slurm --cluster cluster.toml --dry-run") == 2
    file.write_text(good)
    return walk.read()


def an_entry_point(table: dict[str, Any], folder: Path) -> None:
    """Installs the entry points of a `pyproject.toml` and has the page's module listed."""
    lines = []
    for group, points in table["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in points.items())]
    installed = folder / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, "-m", "qamx", "list"]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"^  mine +FQL by another name$", done.stdout, re.MULTILINE), done.stdout

"""How lines of the pages are run that cannot be run here as printed, and why.

A line that no row matches is run as it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import stages
from outputs import Form
from pages import Block

if TYPE_CHECKING:
    from walker import Walk

# What makes a run short


_NETWORKS = "agent.actor_hidden=[16,16] agent.critic_hidden=[16,16] agent.batch_size=16"
_RECORDS = stages.RECORDS
_OFFLINE = f"schedule.offline_steps=40 {_RECORDS}"
_ONLINE = f"{_OFFLINE} schedule.online_steps=20 schedule.online_warmup=5"
SHORT = f"--set {_ONLINE}"
FEW = f"--set {stages.SHORT}"
SMALL = (
    f"{FEW} {_NETWORKS} agent.ensemble_size=2 agent.flow_steps=2 "
    "data.source=ogbench:cube-quadruple-play-v0 data.updates_per_shard="
)
_PHASES = "schedule.offline_steps=40 schedule.online_steps=20 schedule.online_warmup=5"
CLONING = SMALL.replace(_PHASES, "schedule.cloning_steps=40")
WINDOW = (
    "data.generate_episodes=4 schedule.offline_steps=400 evaluation.every=200 "
    "evaluation.episodes=2 "
    "evaluation.environments=2 checkpoint.every=50 logging.every=50 agent.actor_hidden='[32, 32]' "
    "agent.critic_hidden='[32, 32]' agent.ensemble_size=2 agent.flow_steps=3 agent.batch_size=32"
)
_BENCH = "--size tiny --rounds 1 --updates 1"

_HUB = "`tests/tools/test_hub.py` has a Hub of its own"
_SLURM = "`nox -s slurm` has a real Slurm, which this session has not"
_LONG = "full size takes minutes to hours; every step is taken, but few of them"
_OLD = "it takes another version's checkout; here both sides are this one"
_SETS = "full data sets take minutes to hours and gigabytes; a few episodes are made"


@dataclass(frozen=True)
class Change:
    """What is put behind a line, and the exit statuses that it may have.

    `{count}` stands for the number of commands that the page had before.
    """

    adds: str = ""
    why: str = ""
    statuses: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class StandIn:
    """What is done in the place of a line that cannot be run; what it returns was printed."""

    run: "Callable[[Walk, str], str | None]"
    why: str


@dataclass(frozen=True)
class Shown:
    """How a block of output is compared; `stage` prints it where the page has no command."""

    form: Form = "exact"
    why: str = ""
    stage: "Callable[[Walk], str] | None" = None


LINES: tuple[tuple[str, str, Change | StandIn], ...] = (
    # installing, and sessions of their own
    ("deploy.md", "pip install jax numpy", StandIn(stages.made_anew, "`nox -s deploy` does it")),
    ("deploy.md", "pip install --no-deps *", StandIn(stages.made_anew, "`nox -s deploy` does it")),
    ("*", "pip install *", StandIn(stages.named_extras, "the session itself was installed so")),
    ("*", "nox -s *", StandIn(stages.named_sessions, "sessions of their own; this is one")),
    # runs
    (
        "reliability.md",
        "qamx run *\nif *",
        StandIn(stages.requeues, "needs Slurm, and a time limit"),
    ),
    ("tutorial.md", "qamx run experiments/quickstart.toml", Change()),
    ("tutorial.md", "qamx run experiments/quickstart.toml --wandb offline", Change()),
    ("tutorial.md", "qamx run experiments/quickstart.toml --set logging.tensorboard=*", Change()),
    (
        "tutorial.md",
        "qamx run experiments/quickstart.toml --seeds 4",
        Change(f"--out runs/four --seeds 2 {SHORT}", _LONG),
    ),
    ("tutorial.md", "qamx run experiments/c4_qam_edit.toml *", Change(f"--set {_NETWORKS}", _LONG)),
    ("own_agent.md", "qamx run * --set agent.expectile=1.5 *", Change(statuses=(2,))),
    ("own_agent.md", "qamx run *", Change(FEW, _LONG)),
    ("tutorial.md", "qamx run experiments/*", Change(SHORT, _LONG)),
    (
        "performance.md",
        "qamx run experiments/quickstart.toml *",
        Change(f"--set {_OFFLINE}", _LONG),
    ),
    ("*", "qamx run quickstart*", Change(FEW, _LONG)),
    ("gallery.md", "qamx run *", Change(SHORT, _LONG)),
    ("gallery.md", "qamx inspect *", Change(statuses=(0, 1), why="a short run is unwell")),
    ("*", "qamx video docs/examples/*", Change("--episodes 1 --size 64", _LONG)),
    ("methods.md", "*schedule.kind=cloning*", Change(CLONING, _LONG)),
    ("experiments.md", "qamx run *", Change("--out runs/line{count} " + SMALL, _LONG)),
    ("*", "qamx run experiments/c4_*", Change(SMALL, _LONG)),
    # data
    ("tutorial.md", "qamx data generate cube-quadruple-play --shards 2 *", Change()),
    ("reproduction.md", "qamx data generate *", Change("--episodes 4", _SETS)),
    ("*", "qamx data generate * --shards *", Change("--shards 2 --episodes 1", _SETS)),
    ("*", "qamx data generate *", Change("--episodes 1", _SETS)),
    (
        "*",
        "qamx data expert ant",
        Change(f"--steps 120 --set data.steps=100 {_NETWORKS} {_RECORDS}", _LONG),
    ),
    (
        "cpu_benchmark.md",
        "qamx data expert ant *",
        Change(f"--steps 120 --set data.steps=100 {_RECORDS}", _LONG),
    ),
    (
        "*",
        "qamx data expert ant --steps 200000 *",
        Change(f"--steps 120 --directory data/other --set data.steps=100 {_RECORDS}", _LONG),
    ),
    # looking at policies
    *(
        ("deploy.md", f"qamx {command} *me/maze*", Change("--help", _HUB))
        for command in ("push", "pull", "eval")
    ),
    ("evaluation.md", "qamx eval * --step *", Change("--step 40 --episodes 2", _LONG)),
    ("evaluation.md", "qamx eval *", Change("--episodes 2", _LONG)),
    ("evaluation.md", "qamx video *", Change("--episodes 1 --size 64", _LONG)),
    ("inspect_policy.md", "qamx inspect *", Change(statuses=(0, 1), why="a short run is unwell")),
    # sweeps
    (
        "*",
        "qamx sweep experiments/suites/table1.toml --on slurm *",
        Change("--dry-run", _SLURM),
    ),
    (
        "sweeps.md",
        "qamx sweep experiments/suites/search.toml --select *",
        Change(statuses=(2,), why="no trial has been run"),
    ),
    ("sweeps.md", "qamx sweep experiments/suites/search.toml *", Change("--dry-run", _LONG)),
    ("sweeps.md", "qamx status runs/search", Change(statuses=(2,), why="as above")),
    ("sweeps.md", "qamx sweep experiments/suites/cubes.toml *", Change("--dry-run", _SLURM)),
    ("cpu_benchmark.md", "qamx sweep *", Change("--dry-run", _LONG)),
    (
        "cpu_benchmark.md",
        "qamx run *",
        Change(f"--set {_OFFLINE} {_NETWORKS} data.generate_episodes=1", _LONG),
    ),
    ("cpu_benchmark.md", "qamx video *", Change("--episodes 1 --size 64", _LONG)),
    ("cpu_benchmark.md", "qamx compare *", Change(statuses=(0, 1))),
    ("reproduction.md", "timeout * 570 *", Change(f"--set {WINDOW}", _LONG)),
    ("reproduction.md", "qamx sweep * --out runs/slice", Change("--dry-run", _LONG)),
    # studies and benchmarks
    ("reports.md", "qamx compare *", Change(statuses=(0, 1))),
    ("reports.md", "qamx watch *", StandIn(stages.watched, "the page is served until it is ended")),
    ("reproduction.md", "qamx compare *", Change(statuses=(0, 1))),
    ("passport.md", "qamx diff *", Change(statuses=(1,))),
    (
        "passport.md",
        "qamx doctor",
        Change(statuses=(0, 1), why="what this machine lacks is no fault of the page"),
    ),
    (
        "passport.md",
        "qamx verify-resume *",
        Change(f"--kills 2 --set {_NETWORKS} data.generate_episodes=3", _LONG),
    ),
    ("deploy.md", "qamx eval *", Change(why="a short run's episodes are few")),
    (
        "deploy.md",
        "python docs/examples/serving/server.py *",
        StandIn(stages.served, "the server goes on until it is ended"),
    ),
    ("deploy.md", "python docs/examples/serving/client.py", StandIn(stages.client, "as above")),
    (
        "performance.md",
        "qamx bench --for *",
        Change("--size tiny --seeds 1", f"{_LONG}; without the extra cuda12 it says so", (0, 2)),
    ),
    ("performance.md", "qamx bench*", Change(f"{_BENCH} --seeds 1 2", _LONG)),
    ("performance.md", "python benchmarks/beside.py *", StandIn(stages.one_comparison, _OLD)),
    ("benchmark_log.md", "qamx bench*", Change(f"{_BENCH} --seeds 1 2", _LONG)),
    ("benchmark_log.md", "python benchmarks/forms.py *", Change("--size tiny --rounds 1", _LONG)),
    ("performance.md", "python benchmarks/evaluation.py *", StandIn(stages.one_evaluation, _LONG)),
    (
        "performance.md",
        "python benchmarks/stall.py *",
        Change("--steps 60 --every 30 --episodes 2", _LONG),
    ),
    (
        "performance.md",
        "python benchmarks/latency.py *",
        StandIn(stages.one_latency, _LONG),
    ),
    (
        "performance.md",
        "python benchmarks/shards.py *",
        Change("--shards 3 --episodes 2 --updates 5", _LONG),
    ),
    *(
        ("studies.md", script, StandIn(stages.options_of_a_script, _OLD))
        for script in ("PYTHON studies/lockstep.py *", "python -m studies.parity train *")
    ),
    ("experts.md", "python benchmarks/walks.py *", Change("--episodes 1", _LONG)),
)
"""Page, line and what becomes of it; the first row that matches counts."""

OUTPUTS: tuple[tuple[str, str, Shown], ...] = (
    ("architecture.md", "cli ", Shown("nothing", "the layers, which tests/test_layers.py checks")),
    ("architecture.md", "a method: ", Shown("nothing", "parts of files")),
    ("experiments.md", "experiments/suites/mine", Shown(stage=stages.mistakes_of_a_suite)),
    ("experiments.md", "experiments/mine.toml: ", Shown(stage=stages.mistakes)),
    ("own_data.md", "step ", Shown("numbers", "rounding differs between processors")),
    ("deploy.md", "policy ", Shown("words", "of a run that is short here")),
    ("deploy.md", "actions ", Shown("words", "rounding differs between processors")),
    ("gallery.md", "actions ", Shown("numbers", "of a run that is short here")),
    ("gallery.md", "stopping ", Shown(stage=stages.interrupted)),
    ("deploy.md", "episode 0", Shown("words", "of a run that is short here")),
    ("evaluation.md", "A: runs/offline_end", Shown("nothing", "short runs have one step")),
    ("evaluation.md", "50 episodes", Shown("numbers", "of a run that is short here")),
    (
        "inspect.md",
        "ogbench:cube-double-play-v0",
        Shown("numbers", "simulations differ between processors"),
    ),
    ("inspect_policy.md", "nothing", Shown("nothing", "a short run is unwell")),
    ("inspect_policy.md", "runs/", Shown("words", "of a run that is short here, and unwell")),
    (
        "own_agent.md",
        "data/quickstart",
        Shown("numbers", "rounding differs between processors"),
    ),
    ("tune.md", "[1/3]", Shown("lines", "whichever ends first is said first")),
    ("tune.md", "runs/tune", Shown("numbers", "rounding differs between processors")),
    ("tune.md", "quickstart: agent", Shown("numbers", "rounding differs between processors")),
    ("passport.md", "A: runs/one", Shown("numbers", "rounding differs between processors")),
    ("passport.md", "experiments/quickstart", Shown("numbers", "kills are at random moments")),
    ("passport.md", "this machine", Shown("words", "other machines lack other things")),
    (
        "reliability.md",
        "checkpoints/80/",
        Shown("nothing", "tests/training/test_training.py reads checkpoints"),
    ),
    ("tutorial.md", "qam on pointmaze", Shown("numbers", "rounding differs between processors")),
    ("tutorial.md", "runs/quickstart-task1-seed10001/", Shown("files")),
    ("sweeps.md", "cluster.toml: ", Shown(stage=stages.mistakes_of_a_cluster)),
    ("tune.md", "2 runs of", Shown("numbers", "rounding differs between processors")),
    ("tutorial.md", "stopping ", Shown(stage=stages.interrupted)),
    (
        "tutorial.md",
        "runs/quickstart-task1-seed10001 holds",
        Shown(stage=stages.another_configuration),
    ),
)
"""Page, how the block begins, and how it is compared; all others are compared exactly."""

ELSEWHERE = {
    "docs/examples/serving/lerobot_policy.py": "`nox -s lerobot`: LeRobot brings gigabytes",
}
"""Included scripts that other sessions run."""

BASES = {"own_data.md": "docs/examples/own_data.toml", "data.md": "docs/examples/own_data.toml"}
"""The experiment that a page's parts of experiments go over; else the quickstart."""

STAGES: "dict[str, Callable[[Walk], None]]" = {
    "cpu_benchmark.md": stages.a_benchmark,
    "data.md": stages.a_server,
    "deploy.md": stages.a_short_run,
    "evaluation.md": stages.a_short_run,
    "gallery.md": stages.runs_of_a_table,
    "inspect.md": stages.sets_to_inspect,
    "inspect_policy.md": stages.a_short_run,
    "passport.md": stages.two_runs,
    "reports.md": stages.runs_to_report,
    "reproduction.md": stages.a_slice,
    "studies.md": stages.two_short_runs,
    "sweeps.md": stages.swept,
}
"""What is there before a page is begun."""


def change_of(page: str, line: str) -> Change | StandIn:
    """What becomes of a line of a page."""
    for pages, lines, change in LINES:
        if fnmatchcase(page, pages) and fnmatchcase(line, lines):
            return change
    return Change()


def shown_as(block: Block) -> Shown:
    """How a block of output is compared."""
    for page, begins, shown in OUTPUTS:
        if block.page.name == page and block.text.startswith(begins):
            return shown
    return Shown()

"""The wheel: what it holds, and that it works by itself, away from the repository."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli
from short_run import ONLINE, SIZES

from qamx.cli import main
from qamx.config import load, load_suite
from qamx.config.toml import library
from qamx.errors import UserError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
TINY = (
    *SIZES,
    *ONLINE,
    "data.generate_episodes=1",
    "evaluation.every=30",
    "evaluation.episodes=1",
    "evaluation.environments=1",
    "evaluation.workers=0",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, as hatchling builds it from the sources here."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("qamx-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that runs `qamx` from the unpacked wheel, in an empty folder."""
    packages, folder = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    surroundings = {**os.environ, "PYTHONPATH": str(packages)}

    def qamx(*arguments):
        command = [sys.executable, "-m", "qamx", *arguments]
        return subprocess.run(
            command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False
        )

    return qamx


def test_it_holds_every_file_of_the_package_and_every_experiment(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {file.relative_to(ROOT) for file in (ROOT / "qamx").rglob("*") if file.is_file()}
    wanted = {file.as_posix() for file in package if "__pycache__" not in file.parts}
    for file in EXPERIMENTS.rglob("*.toml"):
        wanted.add(f"qamx/_experiments/{file.relative_to(EXPERIMENTS).as_posix()}")
    held_files = {name for name in held if ".dist-info/" not in name}
    assert held_files == wanted
    assert "qamx/py.typed" in held


def test_the_version_is_the_same_everywhere(wheel):
    number = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name.startswith(f"qamx-{number}-")
    assert f"\nversion: {number}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == number


def test_it_knows_its_experiments_by_name_anywhere(installed):
    listed = installed("list").stdout
    assert "experiments that come with qamx:" in listed
    assert "\n  c4_qam_edit " in listed
    assert "\n  suites/table1 " in listed
    checked = installed("check", "c4_qam_edit", "table1").stdout.splitlines()
    assert [Path(line.split()[1]).name for line in checked] == ["c4_qam_edit.toml", "table1.toml"]
    assert all("_experiments" in line for line in checked)
    wrong = installed("check", "c4_qam_edti")
    assert wrong.returncode == 2
    assert wrong.stderr.endswith('did you mean "c4_qam_edit"?\n')


def test_it_trains_by_name_and_sweeps(installed, tmp_path):
    out = tmp_path / "run"
    done = installed("run", "quickstart", "--out", str(out), "--set", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("done: success ")
    assert tomli.loads((out / "config.toml").read_text())["name"] == "quickstart"
    planned = installed("sweep", "reproduction", "--dry-run").stdout
    assert "140 runs" in planned


# Names, in a folder with experiments of its own


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "suites").mkdir(parents=True)
    return tmp_path


def write(file, text):
    file.write_text(text)
    return file


def test_a_name_means_what_is_here_before_what_comes_along(folder, capsys):
    assert load("c4_qam_edit").to_toml() == load(EXPERIMENTS / "c4_qam_edit.toml").to_toml()
    text = (
        (EXPERIMENTS / "c4_qam_edit.toml")
        .read_text()
        .replace("domains/", f"{EXPERIMENTS}/domains/")
    )
    write(folder / "experiments" / "c4_qam_edit.toml", f"seed = 5\n{text}")
    assert load("c4_qam_edit").seed == load("c4_qam_edit.toml").seed == 5
    said = capsys.readouterr().err
    assert said == (
        "note: c4_qam_edit: takes experiments/c4_qam_edit.toml, which differs from the one that "
        "comes with qamx\n"
        "note: c4_qam_edit.toml: takes experiments/c4_qam_edit.toml, which differs from the one "
        "that comes with qamx\n"
    )
    write(folder / "c4_qam_edit.toml", f"seed = 6\n{text}")
    assert load("c4_qam_edit.toml").seed == 6  # a path to a file means that file


def test_the_same_file_twice_is_no_cause_for_a_note(folder, capsys):
    text = (EXPERIMENTS / "quickstart.toml").read_text()
    write(folder / "experiments" / "quickstart.toml", text)
    load("quickstart")
    assert capsys.readouterr().err == ""


def test_a_suite_and_an_experiment_may_share_a_name(folder):
    assert load_suite("quickstart").file == library() / "suites" / "quickstart.toml"
    assert load("quickstart").name == "quickstart"
    assert load_suite("suites/quickstart").file == load_suite("quickstart").file


def test_files_of_ones_own_build_on_those_that_come_along(folder):
    mine = 'extends = "domains/c4.toml"\n[agent]\nmethod = "qam"\ninverse_temperature = 2.0\n'
    write(folder / "experiments" / "mine.toml", mine)
    assert load("mine").environment.id == "cube-quadruple-play"
    suite = '[suite]\nseeds = [1]\n[[group]]\nexperiments = ["../mine.toml", "c3_qam*.toml"]\n'
    write(folder / "experiments" / "suites" / "mine.toml", suite)
    files = {run.file.stem for run in load_suite("suites/mine").runs()}
    assert files == {"mine", "c3_qam", "c3_qam_edit", "c3_qam_fql"}


def test_own_and_packed_names_are_listed_once(folder, capsys):
    write(folder / "experiments" / "c4_qam.toml", "# Mine.\n")
    assert main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "experiments/c4_qam.toml Mine." in lines
    assert "c3_qam qam on cube-triple-play" in lines
    assert not [line for line in lines if line.startswith("c4_qam ")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quikstart", 'no such file, nor an experiment of that name; did you mean "quickstart"?'),
        (
            "zzz",
            "no such file, nor an experiment of that name; qamx list shows what a name can mean",
        ),
        ("mine.tml", 'no such file, nor an experiment of that name; did you mean "mine.toml"?'),
        ("nowhere/quickstart.toml", 'no such file, nor a folder "nowhere"'),
    ],
)
def test_an_unknown_name_is_one_message(folder, name, said):
    write(folder / "mine.toml", "")
    with pytest.raises(UserError) as error:
        load(name)
    assert str(error.value) == f"{name}: {said}"


def test_a_path_of_the_clone_says_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='nor a folder "experiments"; did you mean "quickstart"'):
        load("experiments/quickstart.toml")

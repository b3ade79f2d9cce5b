"""The scripts of `qamx completion`: bash runs its own; all have what the parser has."""

import re
import subprocess

import pytest

from qamx import registry
from qamx.cli import build_parser, main
from qamx.config.toml import library, names

ASK = """
source ./script
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_qamx; echo "${COMPREPLY[*]}"; }
"""


@pytest.fixture
def completions(tmp_path, capsys):
    """The completions that bash offers for the last word of each line."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "experiments" / "suites").mkdir(parents=True)
    for file in ("mine.toml", "experiments/c3_qany.toml", "experiments/suites/table9.toml"):
        (tmp_path / file).touch()

    def ask(*lines):
        commands = ASK + "".join(f"ask {line}\n" for line in lines)
        bash = ["bash", "--norc", "-c", commands]
        done = subprocess.run(bash, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [set(line.split()) for line in done.stdout.splitlines()]

    return ask


def test_bash_completes_commands_options_and_names(completions):
    cases = {
        "qamx co": {"compare", "completion"},
        "qamx data ge": {"generate"},
        "qamx run c3_qam --se": {"--set", "--seed", "--seeds", "--seeds-mode"},
        "qamx run c3_qam --wandb o": {"offline", "online"},
        "qamx run c3_qa": {"c3_qam", "c3_qam_edit", "c3_qam_fql", "c3_qany"},
        "qamx check c2_qam mi": {"mine.toml"},
        "qamx sweep tab": {"table1", "table9"},
        "qamx plan qam trq": {"trqam", "trqam_edit"},
        "qamx bench --method fq": {"fql"},
        "qamx plan qam fql --domain p": {"p33", "p44", "puzzle-3x3-play", "puzzle-4x4-play"},
        "qamx list me": {"methods"},
        "qamx report --out ex": {"experiments"},
    }
    for line, found in zip(cases, completions(*cases), strict=True):
        assert found == cases[line], line


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_has_every_command_option_and_name(shell, capsys):
    assert main(["completion", shell]) == 0
    found = set(re.findall(r"[\w./-]+", capsys.readouterr().out))
    help_of_all = build_parser().format_help()
    commands = set(re.findall(r"^    ([\w-]+) ", help_of_all, re.MULTILINE))
    assert {"run", "completion"} < commands
    dashes = "" if shell == "fish" else "--"
    options = {f"{dashes}{name}" for name in ("seeds-mode", "wandb", "csv", "domain")}
    experiments = {name.removeprefix("suites/") for name, _ in names(library())}
    assert commands | options | experiments | {entry.name for entry in registry.agents} <= found


def test_another_shell_is_one_message(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["completion", "nu"])
    assert ended.value.code == 2
    assert "invalid choice: 'nu' (choose from" in capsys.readouterr().err

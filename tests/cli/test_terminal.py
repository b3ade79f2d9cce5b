"""Tables and findings as an 80-column terminal and a pipe get them."""

import re

import pytest

from qamx._utils.finding import Finding
from qamx._utils.terminal import letters, print_findings, print_table, short_names

RUN = "quickstart-task1-seed10001"
EVALUATION = ("run", "task", "policy", "success", "95%", "return", "length", "seconds")


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Prints on a terminal of 80 columns, and returns what it shows, without colours."""
    monkeypatch.setenv("COLUMNS", "80")

    def shown(action, *arguments):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        action(*arguments)
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)

    return shown


def tables():
    yield EVALUATION, [(RUN, "", "", "98% (49/50)", "[89%, 100%]", "-167.3", "168.2", "10.7")]
    wide = (RUN, "2 (trained for 1)", "behaviour", "0% (0/50)", "[0%, 7%]", "-1000.0", "1000.0")
    yield EVALUATION, [(*wide, "38.9")]
    yield (
        ("", "", "", ""),
        [
            ("device", "ok", "cpu: 2 devices, JAX 0.7", ""),
            (
                "data",
                "warning",
                "datasets/ogbench/navigation: no such folder",
                "made when a set is",
            ),
        ],
    )
    yield (
        ("run", "state", "step", "of", "rate", "left", "success", "job"),
        [(RUN, "running", "1,000,000", "1,500,000", "1,078.6/s", "11 h 20 min", "98%", "")],
    )
    figures = ["45.7 [44.9, 46.4] *", "43.2 [40.0, 44.4]"] * 4
    yield ("method", *(f"task {n}" for n in range(1, 9))), [("qam_edit", *figures)]


@pytest.mark.parametrize(("header", "rows"), tables())
def test_no_word_is_broken_at_80_columns(terminal, header, rows):
    printed = terminal(print_table, "a title", header, rows)
    assert max(map(len, printed.splitlines())) <= 80
    kept = [name for name in range(len(header)) if any(row[name] for row in rows)]
    words = {word for row in (header, *rows) for i in kept for word in row[i].split()}
    assert words <= set(printed.split())
    cells = " ".join(" ".join(row) for row in rows)
    assert all(interval in printed for interval in re.findall(r"\[.*?\]", cells))


def test_a_table_that_fits_looks_as_in_a_pipe(terminal, capsys, monkeypatch):
    shown = terminal(
        print_table, "title", ("a", "b", "c"), [("1", "", "ok"), ("22", "", "problem")]
    )
    assert shown == "title\n  a   c\n  1   ok\n  22  problem\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    print_table("title", ("a", "b", "c"), [("1", "", "ok"), ("22", "", "problem")])
    assert capsys.readouterr().out == shown


def test_a_pipe_gets_a_line_a_row(capsys):
    print_table("title", ("", ""), [("one", "word " * 60)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_findings_are_wrapped_between_words(terminal):
    finding = Finding("rewards-constant", "warn", "rewards " * 30, "nothing is learned " * 8, "add")
    printed = terminal(print_findings, [finding])
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.startswith("findings\n  warning: rewards-constant\n    rewards rewards")
    assert set(printed.split()) >= {"effect:", "nothing", "learned", "remedy:", "add"}


def test_runs_are_named_by_folder_or_by_letters_with_a_legend(capsys):
    assert short_names([f"runs/{RUN}", f"runs/{RUN}", "runs/b"]) == {
        f"runs/{RUN}": RUN,
        "runs/b": "b",
    }
    assert capsys.readouterr().out == ""
    assert short_names(["one/run", "two/run"]) == {"one/run": "A", "two/run": "B"}
    assert short_names(["runs/" + "x" * 40]) == {"runs/" + "x" * 40: "A"}
    assert capsys.readouterr().out == f"A: one/run\nB: two/run\nA: runs/{'x' * 40}\n"
    assert len(set(letters([f"run{n}" for n in range(40)]).values())) == 40

"""Callbacks: what they are given, and what their stops and errors do."""

from types import SimpleNamespace
from typing import Any

import pytest

from qamx.callbacks import Callbacks
from qamx.training.guards import StopRequest

ROW = {"step": 10, "phase": "offline", "critic/loss": 1.0}


def make_policy(agent: Any, acting: Any) -> Any:
    return f"{agent} {acting}"


@pytest.fixture
def runner():
    return SimpleNamespace(stop=StopRequest(), copy_agent=lambda run: (run.agent, "acting"))


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(directory=tmp_path, agent="one")


def test_a_callback_sees_the_row_and_the_policy_of_that_moment(runner, run, tmp_path):
    events = []
    callbacks = Callbacks([events.append], make_policy)
    callbacks(runner, run, "metrics", ROW)
    (event,) = events
    assert (event.kind, event.step, event.row, event.directory) == ("metrics", 10, ROW, tmp_path)
    assert event.policy == "one acting"
    run.agent = "later"
    assert event.policy == "one acting"
    assert not runner.stop.made
    event.stop()
    assert runner.stop.made
    callbacks.raise_error()


def test_an_error_stops_the_run_and_is_raised_after_it(runner, run):
    calls = []

    def fails(event):
        calls.append(event)
        raise RuntimeError("of mine")

    callbacks = Callbacks([fails], make_policy)
    callbacks(runner, run, "metrics", ROW)
    callbacks(runner, run, "evaluation", ROW)
    assert runner.stop.made
    assert len(calls) == 1
    with pytest.raises(RuntimeError, match="of mine"):
        callbacks.raise_error()

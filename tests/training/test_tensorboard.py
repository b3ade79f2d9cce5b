"""TensorBoard's event files, read by TensorBoard: each row is there once, however often a run was
killed."""

import math
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qamx.config import load
from qamx.errors import UserError
from qamx.running import _sinks, run_together
from qamx.training.logs import Logs, TensorBoardSink


def begin(folder):
    """The logs of a run."""
    return Logs(folder, (TensorBoardSink(folder),))


def write(logs, first, last):
    """Writes rows; an evaluation's comes when training is a step further."""
    for step in range(first, last + 1):
        logs.write_metrics({"step": step, "phase": "offline", "critic/loss": step / 2})
        if step % 2 == 0:
            logs.write_evaluation({"step": step - 1, "phase": "offline", "success": step / 8})


def scalars(viewer):
    """The points of each curve."""
    viewer.Reload()
    return {
        tag: [(event.step, event.value) for event in viewer.Scalars(tag)]
        for tag in viewer.Tags()["scalars"]
    }


def points(last):
    """What `write` writes up to a step."""
    success = [(step - 1, step / 8) for step in range(2, last + 1, 2)]
    return {
        "critic/loss": [(step, step / 2) for step in range(1, last + 1)],
        "evaluation/success": success,
    }


@pytest.mark.parametrize("checkpoint", [0, 3], ids=["before-the-first-checkpoint", "later"])
def test_a_resumed_run_has_each_row_once(tmp_path, checkpoint):
    logs = begin(tmp_path)
    write(logs, 1, checkpoint)
    positions = logs.positions()
    write(logs, checkpoint + 1, 6)
    logs.close()
    folder = tmp_path / "tensorboard"
    viewer = EventAccumulator(str(folder))  # stays open beside the run
    assert scalars(viewer) == points(6)

    for last in (5, 8):  # killed once more between the same two checkpoints
        logs = begin(tmp_path)
        logs.cut(positions)
        write(logs, checkpoint + 1, last)
        if last == 8:
            logs.close()

    assert sorted(file.stat().st_size > 0 for file in folder.iterdir()) == [False, False, True]
    assert scalars(EventAccumulator(str(folder))) == points(8)
    assert scalars(viewer) == points(8)


def test_rows_from_before_are_written_and_shown_at_once(tmp_path):
    logs = Logs(tmp_path)
    write(logs, 1, 4)
    logs.close()
    logs = begin(tmp_path)
    logs.cut(logs.positions())
    logs.write_metrics({"step": 5, "critic/loss": math.inf})
    shown = scalars(EventAccumulator(str(tmp_path / "tensorboard")))
    assert shown["critic/loss"] == [*points(4)["critic/loss"], (5, math.inf)]
    logs.close()


def test_a_sink_that_cannot_write_is_left_out(tmp_path, capsys):
    sink = TensorBoardSink(tmp_path)
    sink.close()
    logs = Logs(tmp_path, (sink,))
    write(logs, 1, 2)
    assert "TensorBoardSink: Writer is closed; no more rows go there" in capsys.readouterr().out
    assert [row["step"] for row in logs.metrics.rows()] == [1, 2]
    logs.close()


def test_without_the_package_there_is_one_message_before_anything_else(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("qamx.running.find_spec", lambda name: sys.modules[name])
    experiment = load("quickstart", ["logging.tensorboard=true"])
    with pytest.raises(
        UserError, match=r"^logging\.tensorboard: tensorboard is not installed; pip"
    ):
        run_together([experiment], [tmp_path / "run"])
    assert not (tmp_path / "run").exists()


def test_the_key_adds_the_sink(tmp_path):
    changes = ["logging.tensorboard=true"]
    (sink,) = _sinks(load("quickstart", changes), tmp_path)
    assert isinstance(sink, TensorBoardSink)
    sink.close()
    assert _sinks(load("quickstart"), tmp_path) == ()

"""Rows at Weights & Biases: once each, however often a run was killed; with the real client."""

import importlib
import json
import struct
import time
from typing import Any

import pytest

from qamx.training.logs import Logs, WandbSink

BLOCK, HEADER = 32768, 7
"""Bytes of a block of a .wandb file (LevelDB's log format), and of what precedes each record."""


def records(path):
    """What is in a .wandb file, in order."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4) and at <= len(data):  # FULL and LAST
            yield messages.Record.FromString(whole)
            whole = b""


def rows(path):
    """The rows of a .wandb file, without wandb's own keys."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            yield {key: value for key, value in row.items() if not key.startswith("_")}


def folders(directory, pattern):
    """The .wandb files in folders of a name, once they are whole, and the ids of their runs."""
    files = sorted((directory / "wandb").glob(f"{pattern}/*.wandb"))
    for file in files:  # A process of wandb's own writes them, and may be at it still.
        until = time.monotonic() + 30
        while not any(one.HasField("exit") for one in records(file)):
            assert time.monotonic() < until, file
            time.sleep(0.05)
    runs = [one.run for file in files for one in records(file) if one.HasField("run")]
    return files, {run.run_id for run in runs}


def written(logs, first, last):
    """Writes rows; an evaluation's comes when training is a step further."""
    for step in range(first, last + 1):
        logs.write_metrics({"step": step, "loss": step / 2})
        if step % 2 == 0:
            logs.write_evaluation({"step": step - 1, "success": 0.5})


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Opens the logs of a run that logs to wandb offline."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")

    def begin():
        second = int(time.time())
        while int(time.time()) == second:  # folders of one run are told apart by their second
            time.sleep(0.02)
        return Logs(tmp_path, (WandbSink(tmp_path, "project", "name", "offline", {"a": 1}),))

    return begin


def kept(folder):
    """What the files of a run say, as wandb has it."""
    logs = Logs(folder)
    metrics, evaluations = logs.metrics.rows(), logs.evaluations.rows()
    logs.close()
    return [*metrics, *({f"evaluation/{k}": v for k, v in row.items()} for row in evaluations)]


def in_order(found):
    return sorted(found, key=lambda row: (len(row), sorted(row.items())))


@pytest.mark.parametrize("checkpoint", [0, 3], ids=["before-the-first-checkpoint", "later"])
def test_a_run_that_goes_on_has_each_row_once(tmp_path, begin, checkpoint):
    logs = begin()
    written(logs, 1, checkpoint)
    positions = logs.positions()
    written(logs, checkpoint + 1, 6)
    logs.close()
    first, ids = folders(tmp_path, "offline-run-*")
    assert in_order(rows(first[0])) == in_order(kept(tmp_path))

    for last in (5, 8):  # killed once more between the same two checkpoints
        logs = begin()
        logs.cut(positions)
        written(logs, checkpoint + 1, last)
        logs.close()

    (file,), again = folders(tmp_path, "offline-run-*")
    assert again == ids
    assert [row["step"] for row in rows(file) if "step" in row] == list(range(1, 9))
    assert in_order(rows(file)) == in_order(kept(tmp_path))
    earlier, _ = folders(tmp_path, "superseded-offline-run-*")
    names = [file.parent.name.removeprefix("superseded-") for file in earlier]
    assert (len(names), names[0]) == (2, first[0].parent.name)


def test_axes_are_training_s_and_evaluation_s_own(tmp_path, begin):
    logs = begin()
    written(logs, 1, 2)
    logs.close()
    (file,), _ = folders(tmp_path, "offline-run-*")
    metrics = [one.metric for one in records(file) if one.HasField("metric")]
    axes = {one.name: one.step_metric for one in metrics if one.step_metric}
    assert axes == {"loss": "step", "evaluation/success": "evaluation/step"}
    assert list(rows(file))[-1] == {"evaluation/step": 1, "evaluation/success": 0.5}


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("offline-run-20260101_000000-a/run-a.wandb", False),
        ("offline-run-20260101_000000-a/run-a.wandb.synced", True),
        ("superseded-offline-run-20260101_000000-a/run-a.wandb.synced", True),
        ("run-20260101_000000-a/run-a.wandb", True),
    ],
)
def test_rows_that_may_be_at_the_server_are_spoken_of(tmp_path, monkeypatch, capsys, place, told):
    import wandb

    (tmp_path / "wandb" / place).parent.mkdir(parents=True)
    (tmp_path / "wandb" / place).touch()
    monkeypatch.setattr(wandb, "init", lambda **_: Server())
    WandbSink(tmp_path, "project", "name", "offline", {})
    assert ("before you sync it, delete the run there" in capsys.readouterr().out) == told


class Server:
    """A run as wandb gives it when the server has some of its rows."""

    def __init__(self, **summary):
        self.summary, self.rows, self.axes = summary, [], {}

    def define_metric(self, key, step_metric):
        self.axes[key] = step_metric

    def log(self, row):
        self.rows.append(row)


@pytest.mark.parametrize(
    ("summary", "steps", "evaluations"),
    [
        ({}, [1, 2, 3, 4], [1, 3]),
        ({"step": 2, "evaluation/step": 1}, [3, 4], [3]),
        ({"step": 3}, [4], [1, 3]),
        ({"step": "NaN", "evaluation/step": None}, [1, 2, 3, 4], [1, 3]),
        ({"step": 9, "evaluation/step": 9}, [], []),
    ],
)
def test_rows_that_the_server_has_are_not_sent_again(
    tmp_path, monkeypatch, capsys, summary, steps, evaluations
):
    import wandb

    server = Server(**summary)
    monkeypatch.setattr(wandb, "init", lambda **_: server)
    logs = Logs(tmp_path)
    written(logs, 1, 2)
    logs.close()
    logs = Logs(tmp_path, (WandbSink(tmp_path, "project", "name", "online", {}),))
    logs.cut(logs.positions())
    written(logs, 3, 4)
    assert [row["step"] for row in server.rows if "step" in row] == steps
    sent = [row["evaluation/step"] for row in server.rows if "evaluation/step" in row]
    assert sent == evaluations
    assert ("the server has this run's rows" in capsys.readouterr().out) == (
        summary.get("step") in (2, 3, 9)
    )

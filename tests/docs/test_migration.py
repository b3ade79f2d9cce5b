"""The migration page against the models: each key exists, defaults are said right, files agree."""

import re
from pathlib import Path

import pytest
import tomli
from pydantic_core import PydanticUndefined

from qamx import load, registry
from qamx.config.experiment import (
    CheckpointSettings,
    EvaluationSettings,
    GeneralSettings,
    LoggingSettings,
)

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
SECTIONS = {
    "environment": registry.environments["ogbench"].load_settings(),
    "data": registry.datasets["ogbench"].load_settings(),
    "schedule": registry.schedules["offline_to_online"].load_settings(),
    "agent": registry.agents["fql"].load_settings(),
    "evaluation": EvaluationSettings,
    "checkpoint": CheckpointSettings,
    "logging": LoggingSettings,
}
ABSENT = "—"


def rows(title):
    """The cells of the first table of a section."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ends = [at for at, row in enumerate(cells) if set(row[0]) == {"-"}]
    last = ends[1] - 1 if ends[1:] else None
    return cells[2:last]


def default_of(model, key):
    """A default as the page writes it; a dash where there is none."""
    default = model.model_fields[key].default
    return ABSENT if default in (None, PydanticUndefined) else default


def written(cell):
    if cell == ABSENT:
        return ABSENT
    value = tomli.loads(f"value = {cell.strip('`')}")["value"]
    return tuple(value) if isinstance(value, list) else value


COMMON = [
    (row[2].strip("`"), row[3])
    for title in ("Flags of `main.py`", "Keys of every agent")
    for row in rows(title)
    if row[2]
]


@pytest.mark.parametrize(("key", "default"), COMMON, ids=lambda value: str(value)[-40:])
def test_each_flag_has_a_key_with_the_default_that_is_said(key, default):
    section, _, name = key.rpartition(".")
    model = SECTIONS[section] if section else GeneralSettings
    assert name in model.model_fields
    if name in ("source", "method"):  # follows from the environment, or selects the model
        return
    assert written(default) == default_of(model, name)


@pytest.mark.parametrize("row", rows("Keys of one agent"), ids=lambda row: "-".join(row[:2]))
def test_each_agent_s_key_has_one_of_its_method(row):
    *_, here, methods, default = row
    section, _, name = here.strip("`").partition(".")
    assert section == "agent"
    for method in re.findall(r"`(\w+)`", methods):
        model = registry.agents[method].load_settings()
        assert written(default) == default_of(model, name), method


def test_each_required_key_of_a_method_is_on_the_page():
    said = {"horizon", "discount"}
    for *_, here, methods, _ in rows("Keys of one agent"):
        said |= {(method, here.strip("`")[6:]) for method in re.findall(r"`(\w+)`", methods)}
    for method in set(registry.agents.names()) - {"trqam", "rql", "preflow", "qgf", "trqam_edit"}:
        for name, field in registry.agents[method].load_settings().model_fields.items():
            assert not field.is_required() or name in said or (method, name) in said


def test_every_method_has_its_line():
    named = re.findall(r'`method = "(\w+)"`', "".join(row[1] for row in rows("Methods")))
    assert sorted(named) == sorted(registry.agents.names())


def test_the_authors_commands_are_those_files():
    expected = {
        "c3_qam_edit": {"inverse_temperature": 3.0, "edit_scale": 0.1},
        "c3_qam_fql": {"inverse_temperature": 10.0, "distill_weight": 300.0},
        "c3_qam": {"inverse_temperature": 3.0},
    }
    for name, keys in expected.items():
        assert f"`qamx run {name}`" in PAGE
        told = load(name).to_dict()
        assert (told["environment"]["id"], told["environment"]["task"]) == ("cube-triple-play", 2)
        assert (told["seed"], told["agent"]["horizon"]) == (10001, 5)
        assert told["environment"]["reward"] == "default"
        assert told["agent"] | keys == told["agent"]

"""Loads the TOML of a page as what it is: an experiment, a suite, a cluster's file, a part."""

from pathlib import Path
from typing import Any

import tomli
import tomli_w
from pages import Block
from stages import an_entry_point
from tables import BASES

from qamx.config import load, load_suite
from qamx.tools.sweep.slurm import ClusterSettings, load_cluster

REPLACED = ("environment", "data")
"""Tables of a part that take the place of the base's whole; keys of others go over it."""


def load_as_what_it_is(block: Block, folder: Path) -> None:
    """Loads a block, which must be valid.

    A block with a title is a file of that name. One without is a part of an experiment, and goes
    over the experiment that `BASES` has for its page, or a whole file beside those experiments.
    """
    table = tomli.loads(block.text)
    if "project" in table:
        an_entry_point(table, folder)
    elif table.keys() & {"suite", "group"}:
        file = _file(block, folder, "experiments/suites/shown.toml")
        suite = load_suite(file)
        suite.runs()  # which validates all of them
        assert len(suite) > 0
    elif table.keys() <= ClusterSettings.model_fields.keys():
        load_cluster(_file(block, folder, "cluster.toml"))
    elif "extends" in table or {"environment", "agent"} <= table.keys():
        load(_file(block, folder, "experiments/shown.toml"))
    else:
        base = folder / BASES.get(block.page.name, "experiments/quickstart.toml")
        part = folder / "experiments" / "shown.toml"
        part.write_text(tomli_w.dumps(_over(tomli.loads(base.read_text()), table)))
        load(part)


def _file(block: Block, folder: Path, name: str) -> Path:
    """The block as a file; one with a title was written before the page was begun."""
    if block.title is not None:
        return folder / block.title
    if block.source is not None:
        return block.source
    file = folder / name
    file.write_text(block.text)
    return file


def _over(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in part.items():
        old = base.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and name not in REPLACED:
            value = {**old, **value}
        merged[name] = value
    return merged

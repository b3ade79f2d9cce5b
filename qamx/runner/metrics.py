"""The names under which metrics are logged."""

import re

from jaxtyping import Array

from qamx._types import Metrics

SECTIONS = {
    "UpdateMetrics": "update",
    "CriticMetrics": "critic",
    "FlowMatchingMetrics": "behaviour_flow",
    "AdjointMatchingMetrics": "adjoint_matching",
    "OneStepMetrics": "one_step",
    "EditMetrics": "edit",
}


def section(record: Metrics) -> str:
    """The part of a key before the slash; for a class of your own, its name in snake case."""
    name = type(record).__name__
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Metrics")).lower()
    return SECTIONS.get(name, snake)


def flatten(records: tuple[Metrics, ...]) -> dict[str, Array]:
    """`section/field` for every scalar of the records."""
    return {
        f"{section(record)}/{name}": value
        for record in records
        for name, value in vars(record).items()
    }

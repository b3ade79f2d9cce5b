"""The names under which metrics are logged."""

import re

from jaxtyping import Array

from qamx._types import Metrics


def section(record: Metrics) -> str:
    """The part of a key before the slash: the record's class in snake case, less "Metrics"."""
    name = type(record).__name__.removesuffix("Metrics")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def flatten(records: tuple[Metrics, ...]) -> dict[str, Array]:
    """`section/field` for every scalar of the records.

    **Raises:** `ValueError` if two records have the same class, and so the same names.
    """
    sections = [section(record) for record in records]
    if len(set(sections)) < len(sections):
        raise ValueError(f"two metrics records of one class: {', '.join(sections)}")
    return {
        f"{section(record)}/{name}": value
        for record in records
        for name, value in vars(record).items()
    }

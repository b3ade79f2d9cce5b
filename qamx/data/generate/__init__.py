"""Data sets made on the spot by scripted behaviours, in the format that OGBench reads."""

from qamx.data.generate.catalogue import Dataset, dataset_names, lookup
from qamx.data.generate.generation import generate
from qamx.data.generate.places import default_directory
from qamx.data.generate.plan import Plan, shard_folder

__all__ = [
    "Dataset",
    "Plan",
    "dataset_names",
    "default_directory",
    "generate",
    "lookup",
    "shard_folder",
]

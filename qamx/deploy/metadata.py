"""`bundle.json`: metadata and checksums of an exported policy."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from qamx._utils.files import sha256
from qamx._utils.units import Units
from qamx.errors import UserError, named

FILE_NAME = "bundle.json"
VERSION = 1
SAMPLER, WEIGHTS, MODEL, GOLDEN = "sampler.stablehlo", "weights.npz", "policy.onnx", "golden.npz"
EXPERIMENT = "experiment.toml"

Kind: TypeAlias = Literal["bundle", "onnx"]

NEEDED: dict[Kind, tuple[str, ...]] = {
    "bundle": (SAMPLER, WEIGHTS, GOLDEN, EXPERIMENT),
    "onnx": (MODEL, GOLDEN, EXPERIMENT),
}


@dataclass(frozen=True)
class Draw:
    """An input of standard normal numbers.

    **Arguments:** `shape` is without the batch, which is axis `axis` and has `rows` entries
    for each observation.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    rows: int

    def whole(self, batch: int) -> tuple[int, ...]:
        """The shape for `batch` observations."""
        return (*self.shape[: self.axis], self.rows * batch, *self.shape[self.axis :])


@dataclass(frozen=True)
class Metadata:
    """Metadata of an exported policy.

    **Arguments:** observations have `observation_size` entries, in the order `observation_keys`
    where the environment's are dictionaries; a chunk is `horizon` actions of `action_size`
    entries. `draws` are the random inputs of an ONNX model, `calling_convention` that of a
    program of `jax.export`. `policy` (with the step), `environment`, `made_with`,
    `evaluation` and `latency` are its provenance; `files` holds a SHA-256 for each file.
    """

    kind: Kind
    observation_size: int
    action_size: int
    horizon: int
    observation_keys: tuple[str, ...] | None
    units: Units
    draws: tuple[Draw, ...]
    platforms: tuple[str, ...]
    calling_convention: int | None
    policy: Mapping[str, Any]
    environment: Mapping[str, Any]
    made_with: Mapping[str, str]
    evaluation: Mapping[str, Any] | None
    latency: Mapping[str, float]
    files: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Writes `bundle.json`."""
        table = {"format": "qamx", "version": VERSION, **asdict(self)}
        table["units"] = {name: vector.tolist() for name, vector in table["units"].items()}
        (folder / FILE_NAME).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: Path | str) -> Metadata:
    """Reads and verifies the metadata of an exported policy.

    **Raises:** `UserError` if the folder holds none, or one of a later version of qamx, or a file
    is missing or is not the one that was exported.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("format") != "qamx":
            raise KeyError("format")
        if (found := table.pop("version", None)) != VERSION:
            raise UserError(
                f"{path}: version {found}, and this qamx reads {VERSION}; export the run again "
                "with this qamx, or install the one that wrote it"
            )
        metadata = _parsed(table)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: no exported policy (it has no {FILE_NAME}); name a folder that "
            "qamx export wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({named(error)}); export the run again") from error
    for name, expected in metadata.files.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing; copy the whole folder, or export the run again")
        if sha256(file) != expected:
            raise UserError(
                f"{file}: not the file that was exported (its SHA-256 differs); copy the folder "
                "again, or export the run again"
            )
    return metadata


def _parsed(table: dict[str, Any]) -> Metadata:
    vectors, keys = table["units"], table["observation_keys"]
    parsed = {
        "units": Units(**{name: np.asarray(v, np.float32) for name, v in vectors.items()}),
        "draws": tuple(Draw(**{**draw, "shape": tuple(draw["shape"])}) for draw in table["draws"]),
        "observation_keys": None if keys is None else tuple(keys),
        "platforms": tuple(table["platforms"]),
    }
    metadata = Metadata(**(table | parsed))
    for name in ("observation_size", "action_size", "horizon"):
        if not (isinstance(size := getattr(metadata, name), int) and size > 0):
            raise ValueError(f"{name} is {size}")
    if missing := {*NEEDED[metadata.kind]} - metadata.files.keys():
        raise ValueError(f"files lacks {', '.join(sorted(missing))}")
    return metadata

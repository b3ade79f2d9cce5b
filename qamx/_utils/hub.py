"""The Hugging Face Hub: addresses `hf:USER/NAME`, downloads, and errors with their remedies."""

import contextlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qamx._utils.files import TextError, package_version, read_text
from qamx.errors import UserError, install_extra, named

PREFIX = "hf:"
"""Begins the address of a repository, `hf:USER/NAME` or `hf:USER/NAME@REVISION`."""

FILES = (
    "config.toml",
    "passport.json",
    "scaling.json",
    "evaluations.jsonl",
    "metrics.jsonl",
    "checkpoints/*",
    "bundle.json",
    "experiment.toml",
    "golden.npz",
    "sampler.stablehlo",
    "weights.npz",
    "policy.onnx",
    "README.md",
)
"""Patterns of the files of a run or an exported policy that are exchanged; none is code."""

EXPERIMENTS = ("config.toml", "experiment.toml")
"""The files with the experiment of a run, and of an exported policy."""

CODE = ("*.py", "*.pyc", "*.so")
"""Patterns of files that Python could import, which are left on the Hub."""


def local_folder(address: Path | str, *, configured: bool = True) -> Path:
    """The folder of an address; one on the Hub is downloaded into the user's cache.

    **Arguments:** `configured` is false if what loads the folder does not read its experiment,
    which may name code.

    **Raises:** `UserError` if it cannot be had, or its experiment names code.
    """
    text = str(address)
    if not text.startswith(PREFIX):
        return Path(address)
    folder = download(text)
    if configured and (modules := modules_named(folder)):
        raise UserError(
            f"{text}: {describe_modules(modules)}; if you trust it, install it and write: "
            f"qamx pull {text.removeprefix(PREFIX)} --trust-code, then name the folder"
        )
    return folder


def download(address: str, folder: Path | None = None) -> Path:
    """Downloads a repository of an address, into `folder` or the user's cache.

    **Raises:** `UserError` if it cannot be had.
    """
    repository, _, revision = address.removeprefix(PREFIX).partition("@")
    with hub_errors(repository):
        from huggingface_hub import snapshot_download

        found = snapshot_download(
            repository,
            revision=revision or None,
            local_dir=folder,
            allow_patterns=list(FILES),
            ignore_patterns=list(CODE),
            library_name="qamx",
            library_version=package_version("qamx"),
        )
    return Path(found)


@contextlib.contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns errors of the Hub and its library into `UserError`s."""
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise UserError(
            f"{PREFIX}{repository}: needs huggingface_hub: {install_extra('hub')}"
        ) from error
    # Of httpx or of its successor, whichever the library uses.
    http_error: Any = next(e for e in errors.HfHubHTTPError.__mro__ if e.__name__ == "HTTPError")
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f'found "{repository}"; write USER/NAME of a repository') from error
    except errors.LocalTokenNotFoundError as error:
        raise UserError(f"{PREFIX}{repository}: no token for the Hub; {log_in}") from error
    except errors.RevisionNotFoundError as error:
        text = "no such revision; name a branch, tag or commit behind @, or leave it out"
        raise UserError(f"{PREFIX}{repository}: {text}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{PREFIX}{repository}: no such repository on the Hub, or one that is not yours to "
            f"use; check the name, or {log_in}"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        remedy = log_in if status in (401, 403) else "try again later"
        raise UserError(f"{PREFIX}{repository}: the Hub refuses ({status}); {remedy}") from error
    except (OSError, http_error, errors.LocalEntryNotFoundError) as error:
        raise UserError(
            f"{PREFIX}{repository}: the Hub cannot be reached ({named(error).splitlines()[0]}); "
            "check the connection, HF_HUB_OFFLINE and HF_ENDPOINT"
        ) from error


def modules_named(folder: Path) -> list[str]:
    """The modules that loading a run or an exported policy imports: plugins, and an
    environment's `gymnasium:MODULE:NAME`."""
    modules: list[str] = []
    for name in EXPERIMENTS:
        table = experiment_table(folder / name) if (folder / name).is_file() else {}
        plugins = table.get("plugins", [])
        modules += map(str, plugins if isinstance(plugins, list) else [plugins])
        environment = table.get("environment", {})
        if isinstance(environment, dict):
            modules += str(environment.get("id", "")).split(":")[1:-1]
    return list(dict.fromkeys(modules))


def experiment_table(file: Path) -> dict[str, Any]:
    """The experiment of a run or of an exported policy, as it is written.

    **Raises:** `UserError` if it cannot be read, or is not the whole experiment.
    """
    try:
        table = tomllib.loads(read_text(file))
    except (OSError, tomllib.TOMLDecodeError, TextError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error
    if "extends" in table:
        raise UserError(f"{file}: extends: not in a run or an exported policy of qamx")
    return table


def describe_modules(modules: list[str]) -> str:
    """A sentence about the modules that loading imports."""
    return f"loading it imports Python code that does not come with it: {', '.join(modules)}"

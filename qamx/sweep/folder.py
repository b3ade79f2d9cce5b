"""What a sweep keeps beside its runs: `_sweep/` in its folder, which no run can be called."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qamx.errors import UserError


@dataclass(frozen=True)
class Entry:
    """What the sweep knows of a run: its process, its last step, the job that it is in.

    **Arguments:** `kind` is what runs that cost the same have in common, `job` Slurm's number.
    """

    process: str
    total: int
    kind: str
    job: str | None = None


@dataclass(frozen=True)
class RunOrder:
    """A run as its process is told of it."""

    file: str
    overrides: tuple[str, ...]
    seed: int
    directory: str


class SweepFolder:
    """`plan.json`, the orders of processes, their logs and their exit codes.

    **Arguments:** `directory` is the folder of the sweep, in which its runs have theirs.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.own = directory / "_sweep"

    def entries(self) -> dict[str, Entry]:
        """The runs that were planned here, by name.

        **Raises:** `UserError` if the plan cannot be read.
        """
        path = self.own / "plan.json"
        try:
            table = json.loads(path.read_bytes())
            return {name: Entry(**entry) for name, entry in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); remove it: qamx sweep writes a new one"
            ) from error

    def plan(self, entries: Mapping[str, Entry]) -> None:
        """Adds runs to the plan, or renews what it says of them."""
        _write(
            self.own / "plan.json",
            {name: asdict(entry) for name, entry in {**self.entries(), **entries}.items()},
        )

    def submitted(self, jobs: Mapping[str, str]) -> None:
        """Notes the job that each process is in."""
        entries = self.entries().items()
        self.plan(
            {
                name: replace(entry, job=jobs[entry.process])
                for name, entry in entries
                if entry.process in jobs
            }
        )

    def order(self, process: str, runs: Sequence[RunOrder]) -> None:
        """Writes down what a process is to carry out."""
        _write(self.order_of(process), [asdict(run) for run in runs])

    def order_of(self, process: str) -> Path:
        """The file of a process's order."""
        return self.own / "processes" / f"{process}.json"

    def log_of(self, process: str) -> Path:
        """The file of what a process prints."""
        return self.own / "logs" / f"{process}.log"

    def code_of(self, process: str) -> int | None:
        """What the process last ended with: an exit code, or less a signal; None without an end."""
        try:
            return int(self._code(process).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def began(self, process: str) -> None:
        """Forgets how the process ended before."""
        self._code(process).unlink(missing_ok=True)

    def ended(self, process: str, code: int) -> None:
        """Notes how a process ended."""
        self._code(process).write_text(f"{code}\n")

    def _code(self, process: str) -> Path:
        return self.order_of(process).with_suffix(".code")


def read_order(path: Path) -> list[RunOrder]:
    """The runs of a process.

    **Raises:** `UserError` if the file cannot be read.
    """
    try:
        return [RunOrder(**run) for run in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); start the sweep again") from error


def _write(path: Path, content: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); name another folder with --out"
        ) from error

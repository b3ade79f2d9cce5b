"""`qamx push` and `qamx pull`: runs and exported policies on the Hugging Face Hub."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamx._utils.files import package_version, read_json_lines
from qamx._utils.hub import (
    PREFIX,
    describe_modules,
    download,
    experiment_table,
    hub_errors,
    modules_named,
)
from qamx.deploy.metadata import EXPERIMENT, read_metadata
from qamx.deploy.metadata import FILE_NAME as BUNDLE
from qamx.errors import ExitCode, UserError
from qamx.evaluation.intervals import CONFIDENCE, success_interval
from qamx.provenance import read as read_passport

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

RUN_FILES = (
    "config.toml",
    "passport.json",
    "scaling.json",
    "evaluations.jsonl",
    "metrics.jsonl",
)
"""Files of a run beside its newest checkpoint; rows of the online replay are not published."""

CARD = "README.md"


@dataclass(frozen=True)
class PublishedPolicy:
    """A run or an exported policy, as it is published.

    **Arguments:** `files` are relative to `folder`; `evaluation` is the last one, if there was one,
    `versions` are those that made it.
    """

    folder: Path
    exported: bool
    files: tuple[str, ...]
    step: int
    experiment: dict[str, Any]
    evaluation: dict[str, Any] | None
    versions: dict[str, str]

    @property
    def environment(self) -> str:
        """The environment with its task."""
        table = self.experiment["environment"]
        return f"{table['id']} task {table['task']}" if "task" in table else str(table["id"])

    def success(self) -> str:
        """The success of the last evaluation with its interval."""
        if self.evaluation is None:
            return "not evaluated at this step"
        episodes, rate = self.experiment["evaluation"]["episodes"], self.evaluation["success"]
        low, high = success_interval(round(rate * episodes), episodes)
        return (
            f"{rate:.0%} of {episodes} episodes, {CONFIDENCE:.0%} interval {low:.0%} to {high:.0%}"
        )

    def card_data(self, license: str) -> "ModelCardData":
        """The fields of the card that the Hub reads."""
        from huggingface_hub import EvalResult, ModelCardData

        method, identifier = (
            self.experiment["agent"]["method"],
            self.experiment["environment"]["id"],
        )
        results = None
        if self.evaluation is not None:
            results = [
                EvalResult(
                    task_type="reinforcement-learning",
                    dataset_type=identifier,
                    dataset_name=self.environment,
                    metric_type="success_rate",
                    metric_value=self.evaluation["success"],
                )
            ]
        return ModelCardData(
            license=license,
            library_name="qamx",
            pipeline_tag="reinforcement-learning",
            tags=["reinforcement-learning", "flow-matching", method],
            model_name=self.experiment["name"],
            eval_results=results,
        )

    def card(self, repository: str, license: str) -> str:
        """The model card, in Markdown."""
        agent, seed = self.experiment["agent"], self.experiment["seed"]
        rows = {
            "method": f"`{agent['method']}`",
            "environment": f"`{self.environment}`",
            "data": f"`{self.experiment['data']['source']}`",
            "seed": f"{seed}, one run: other seeds may differ by more than the interval",
            "steps": f"{self.step:,}",
            "success": self.success(),
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "licence": license,
        }
        table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
        use = "from qamx import TrainedPolicy\n\npolicy = TrainedPolicy.load"
        if self.exported:
            use = "from qamx.deploy import load_policy\n\npolicy = load_policy"
        modules = modules_named(self.folder)
        code = f"\nNote: {describe_modules(modules)}.\n" if modules else ""
        return (
            f"---\n{self.card_data(license).to_yaml()}\n---\n\n"
            f"# {self.experiment['name']}\n\n"
            f"A policy trained with qamx{', exported with qamx export' * self.exported}.\n\n"
            f"| | |\n|---|---|\n{table}\n{code}\n## Load\n\n"
            f"In an environment with qamx and its extra `hub`:\n\n"
            f"```bash\nqamx eval {PREFIX}{repository}\n```\n\n"
            f'```python\n{use}("{PREFIX}{repository}")\n```\n'
        )


def published(folder: Path) -> PublishedPolicy:
    """The published part of the folder of a run or of an exported policy, verified.

    **Raises:** `UserError` for another folder, one without a checkpoint, or a damaged one.
    """
    if (folder / BUNDLE).is_file():
        metadata = read_metadata(folder)
        return PublishedPolicy(
            folder,
            exported=True,
            files=(BUNDLE, *metadata.files),
            step=int(metadata.policy["step"]),
            experiment=experiment_table(folder / EXPERIMENT),
            evaluation=None if metadata.evaluation is None else dict(metadata.evaluation),
            versions=dict(metadata.made_with),
        )
    if not (folder / "config.toml").is_file():
        text = "neither a run (it has no config.toml) nor an exported policy (no bundle.json)"
        raise UserError(f"{folder}: {text}")
    step = _newest_checkpoint(folder)
    checkpoint = folder / "checkpoints" / str(step)
    files = [name for name in RUN_FILES if (folder / name).is_file()]
    files += [path.relative_to(folder).as_posix() for path in _files(checkpoint)]
    rows = read_json_lines(folder / "evaluations.jsonl")
    versions = read_passport(folder)["starts"][-1]["versions"]
    return PublishedPolicy(
        folder,
        exported=False,
        files=tuple(files),
        step=step,
        experiment=experiment_table(folder / "config.toml"),
        evaluation=next((row for row in reversed(rows) if row["step"] == step), None),
        versions={name: versions[name] for name in ("qamx", "jax", "python") if versions.get(name)},
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _newest_checkpoint(folder: Path) -> int:
    """The step of the newest checkpoint, verified."""
    from qamx.training.checkpoint import DamagedCheckpoint, verify

    names = [path.parent.name for path in (folder / "checkpoints").glob("*/manifest.json")]
    steps = [int(name) for name in names if name.isdecimal()]
    if not steps:
        raise UserError(f"{folder}: no checkpoint yet; let the run continue")
    try:
        verify(folder / "checkpoints" / str(max(steps)))
    except DamagedCheckpoint as damage:
        raise UserError(f"{damage}; name an intact folder") from damage
    return max(steps)


def push(folder: Path, repository: str, license: str, private: bool, new_card: bool) -> int:
    """Publishes a run or an exported policy in a repository, which is made if there is none.

    A run's older checkpoints there are removed; a card that is there is kept unless `new_card`.

    **Raises:** `UserError` for a folder that cannot be published, and if the Hub refuses.
    """
    repository = repository.removeprefix(PREFIX)
    policy = published(folder)
    with hub_errors(repository):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi(library_name="qamx", library_version=package_version("qamx"))
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        there = set(api.list_repo_files(repository))
        stale = {name for name in there if name.startswith("checkpoints/")} - {*policy.files}
        operations: list[Any] = [
            CommitOperationAdd(name, str(folder / name)) for name in policy.files
        ]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        if new_card or CARD not in there:
            card = policy.card(repository, license).encode()
            operations.append(CommitOperationAdd(CARD, card))
        message = f"{policy.experiment['agent']['method']} at step {policy.step:,}"
        done = api.create_commit(repository, operations, commit_message=message)
    kept = "" if new_card or CARD not in there else f"; {CARD} is kept (--new-card replaces it)"
    print(f"{len(policy.files)} files at {done.repo_url}{kept}")
    print(f"to load them: qamx eval {PREFIX}{repository}")
    return ExitCode.DONE


def pull(repository: str, out: Path | None, trust_code: bool) -> int:
    """Downloads a run or an exported policy into a new folder, and verifies it.

    **Raises:** `UserError` if it cannot be had, is damaged, or names code and is not trusted.
    """
    name = repository.removeprefix(PREFIX).partition("@")[0]
    folder = out or Path("runs") / name.rpartition("/")[2]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; name another folder with --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that a folder appears when it is whole.
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        text = f"cannot be written ({error.strerror}); name another folder with --out"
        raise UserError(f"{folder}: {text}") from error
    try:
        download(repository, partial)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        try:
            policy, modules = published(partial), modules_named(partial)
        except UserError as error:
            raise UserError(str(error).replace(str(partial), f"{PREFIX}{name}")) from error
        if modules and not trust_code:
            raise UserError(
                f"{PREFIX}{name}: {describe_modules(modules)}; if you trust it, install it and "
                f"write: qamx pull {repository} --trust-code"
            )
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    kind = "exported policy" if policy.exported else "run"
    method = policy.experiment["agent"]["method"]
    print(f"{folder}: {kind} of {method} in {policy.environment}, step {policy.step:,}")
    print(f"success: {policy.success()}")
    if modules:
        print(f"note: {describe_modules(modules)}")
    return ExitCode.DONE

"""A data source whose faults end a run before it begins, or are warned of."""

import dataclasses
import sys

import numpy as np

from qamx.data.inspection import Finding, Shards, examine
from qamx.data.sequences import Transitions
from qamx.data.source import AbstractDataAround, DataSource, findings_of, jumps_of
from qamx.errors import UserError

ACTION_LIMIT = 1.0 - 1e-5
"""Data actions are clipped to this, so that a tanh policy can reach them."""


class CheckedData(AbstractDataAround):
    """A data source whose shards are inspected when they are first loaded.

    Warnings go to the standard error stream, one line each, one of each kind.

    **Arguments:** `name` is what messages call the source, `horizon` the length of the windows
    that will be drawn.

    **Raises:** on `load`, `UserError` with everything that a run refuses.
    """

    def __init__(self, source: DataSource, name: str, horizon: int):
        super().__init__(source)
        self._name, self._horizon = name, horizon
        self._inspected: set[int] = set()
        self._warned: set[str] = set()
        self._seen = Shards()

    def load(self, shard: int) -> Transitions:
        transitions = self._source.load(shard)
        if shard not in self._inspected:
            self._inspect(shard, transitions)
        actions = np.clip(np.asarray(transitions.actions), -ACTION_LIMIT, ACTION_LIMIT)
        return dataclasses.replace(transitions, actions=actions)

    def _inspect(self, shard: int, transitions: Transitions) -> None:
        examination = examine(transitions, self._horizon, jumps_of(self._source))
        findings = [*(findings_of(self._source) if shard == 0 else ()), *examination.findings]
        if examination.facts is not None:
            findings += self._seen.compare(shard, examination.facts)
        where = self._name if self.shards == 1 else f"{self._name}, shard {shard}"
        refused = [finding.line(where) for finding in findings if finding.level == "refuse"]
        if refused:
            raise UserError("\n".join(refused))
        self._inspected.add(shard)
        self._warn(where, [finding for finding in findings if finding.level == "warn"])

    def _warn(self, where: str, findings: list[Finding]) -> None:
        for finding in findings:
            if finding.id not in self._warned:
                self._warned.add(finding.id)
                print(f"warning: {finding.line(where)}", file=sys.stderr, flush=True)

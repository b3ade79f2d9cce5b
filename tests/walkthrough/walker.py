"""Follows a page from its first block to its last, in a folder like a clone."""

import contextlib
import glob
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outputs import check
from pages import EXAMPLES, ROOT, Block, blocks_of
from tables import ELSEWHERE, STAGES, StandIn, change_of, shown_as
from tomls import load_as_what_it_is

from qamx.cli import main

SHARED = ("docs", "benchmarks", "studies", "tests", "pyproject.toml", "noxfile.py")
"""What a clone has and no page writes to; `experiments` is copied, since pages add to it."""

ALONE = ("video",)
"""Commands that need a process of their own: MuJoCo chooses how it draws when it is imported."""


class Walk:
    """A page, the folder in which it is followed, and what its commands have printed.

    `read` gives what was printed since it was last called; what a walk opens is closed by `exits`.
    """

    def __init__(self, page: Path, folder: Path, read: Callable[[], str]):
        self.page, self.folder, self.read = page, folder, read
        self.count = 0
        self.printed, self.exits = "", contextlib.ExitStack()
        self.names: dict[str, Any] = {"__name__": page.stem}

    def go(self) -> None:
        """Runs, loads and compares every block."""
        blocks = list(blocks_of(self.page))
        for block in blocks:
            if block.title:
                self.write(block.title, block.text)
        with self.exits:
            STAGES.get(self.page.name, lambda walk: None)(self)
            for block in blocks:
                try:
                    self._follow(block)
                except BaseException as error:
                    error.add_note(f"in the block at {block}")
                    raise

    def write(self, name: str, text: str) -> Path:
        """A file in the walk's folder."""
        file = self.folder / name
        inside = file.parent.resolve().is_relative_to(self.folder) and not file.is_symlink()
        assert inside, f"{name} is the repository's own"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def _follow(self, block: Block) -> None:
        if block.language == "bash":
            self.printed = ""
            for line in block.commands():
                self.printed += self._line(line)
        elif block.language == "python":
            self._python(block)
        elif block.language == "toml":
            load_as_what_it_is(block, self.folder)
        elif block.language == "text":
            self._compare(block)
        else:
            pytest.fail("a block without a test: name its language, bash, python, toml or text")

    def _line(self, line: str) -> str:
        """Executes a line as the table says; returns what it printed."""
        change = change_of(self.page.name, line)
        if isinstance(change, StandIn):
            return change.run(self, line) or ""
        self.count += 1
        status = self.execute(f"{line} {change.adds.format(count=self.count)}")
        printed = self.read()
        assert status in change.statuses, f"{line}\nended with {status}:\n{printed}"
        return printed

    def execute(self, line: str) -> int:
        """Executes a line, `qamx` in this process, and returns its exit status."""
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            for assignment in words[1:]:
                name, _, value = assignment.partition("=")
                os.environ[name] = os.path.expandvars(value)
            return 0
        if words[0] == "qamx" and words[1] not in ALONE:
            return _status(lambda: main([one for word in words[1:] for one in _expanded(word)]))
        return subprocess.run(["bash", "-c", line], env=_with_qamx(), check=False).returncode

    def _python(self, block: Block) -> None:
        if block.source is not None:
            elsewhere = str(block.source.relative_to(ROOT)) in ELSEWHERE
            assert elsewhere or block.source in EXAMPLES, (
                "the example is run by tests/docs/test_docs.py"
            )
            return
        exec(compile(block.text, str(block), "exec"), self.names)
        self.printed = self.read()

    def _compare(self, block: Block) -> None:
        shown = shown_as(block)
        if shown.stage is not None:
            self.printed = shown.stage(self)
        check(block.text, self.printed, shown.form, self.folder)


def folder_like_a_clone(folder: Path) -> Path:
    """Gives a folder what pages take from a clone."""
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    return folder


def _expanded(word: str) -> list[str]:
    """The files that a word matches, as the shell has it; else the word."""
    return (sorted(glob.glob(word)) if "*" in word else []) or [word]


def _status(run: Callable[[], int]) -> int:
    try:
        return run()
    except SystemExit as ended:  # --version, and the parser's own complaints
        return ended.code if isinstance(ended.code, int) else 1


def _with_qamx() -> dict[str, str]:
    """The environment with this interpreter's commands, and this tree's packages, found first."""
    commands = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([commands, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }

"""Atomic writes and JSON lines."""

import os

import pytest

from qamx._utils import files
from qamx._utils.files import atomic_path, atomic_write, make_folder, package_version
from qamx._utils.files import read_json_lines as read
from qamx.errors import UserError


def test_a_write_replaces_the_file_as_a_whole(tmp_path):
    path = tmp_path / "a"
    for content in ("first", b"second\xff", "ü"):
        atomic_write(path, content)
        expected = content.encode() if isinstance(content, str) else content
        assert path.read_bytes() == expected
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a"
    path.write_text("old")
    owner, name = {
        "write": (type(path), "write_bytes"),
        "fsync": (files, "fsync"),
        "replace": (os, "replace"),
    }[step]
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "a", []
    path.write_text("old")
    monkeypatch.setattr(files, "fsync", lambda p: synced.append((p.read_text(), path.read_text())))
    with atomic_path(path) as partial:
        partial.write_text("new")
    assert synced == [("new", "old")]
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("", []),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2', [{"a": 1}]),
        ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
    ],
    ids=["empty", "whole", "being written", "without a newline"],
)
def test_rows_of_a_file_that_may_be_written_to(tmp_path, content, rows):
    path = tmp_path / "rows.jsonl"
    assert read(path) == []
    path.write_text(content)
    assert read(path) == rows


@pytest.mark.parametrize("line", ["{", "", "\udcff"])
def test_a_damaged_row_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n'.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"rows.jsonl: line 2: found '.?', not JSON \(.*restore"):
        read(path)


def test_the_version_of_a_missing_package_is_none():
    assert package_version("numpy") is not None
    assert package_version("no-such-package") is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{tmp_path}/file/b: can't be made"):
        make_folder(tmp_path / "file" / "b")

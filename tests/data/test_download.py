"""Downloads from a server that cuts, stalls, lies and changes.

Every case checks the requested bytes too: a restart instead of a resume would give the same file.
"""

import errno
import functools
import hashlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import filelock
import numpy as np
import ogbench.utils
import pytest
from file_server import Answer, FileServer, archive
from rich.console import Console

from qamx._utils.machine import map_in_threads
from qamx.cli import main
from qamx.data.ogbench import catalogue
from qamx.data.ogbench.catalogue import (
    COPY,
    DOMAIN_OF,
    SERVER,
    known_names,
    remote_files,
    server_urls,
)
from qamx.data.ogbench.dataset import find_files
from qamx.data.ogbench.download import (
    PUBLISHED,
    DownloadProgress,
    FileSize,
    Record,
    add_record,
    download,
    read_records,
)
from qamx.data.ogbench.generate import generate
from qamx.data.ogbench.http import (
    Cancelled,
    PartialFile,
    RetryPolicy,
    Transfer,
    format_bytes,
    remote_size,
)
from qamx.errors import UserError

QUICK = RetryPolicy(connect=1.0, stall=0.5, attempts=3, pause=0.01)
NAME = "pointmaze-medium-navigate"
TRAIN, VAL = f"{NAME}-v0.npz", f"{NAME}-v0-val.npz"
CUT = 2000


TRAINING, HELD_OUT = archive(0), archive(1, rows=100)
SIZE = len(TRAINING)


@pytest.fixture
def server():
    server = FileServer()
    server.files = {TRAIN: TRAINING, VAL: HELD_OUT}
    yield server
    server.close()


def fetch(server, directory, *names, retry_policy=QUICK, **options):
    return download(
        names or (NAME,),
        directory=directory,
        mirror=server.url,
        retry_policy=retry_policy,
        progress=False,
        **options,
    )


def refused(server, directory, *names, **options):
    with pytest.raises(UserError) as error:
        fetch(server, directory, *names, **options)
    return str(error.value)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def part_of(directory):
    """The partial training file."""
    return directory / ".downloads" / f"{NAME}-v0" / f"{TRAIN}.part"


def leftovers(directory):
    """The files in the staging folder, without locks."""
    inside = (directory / ".downloads").rglob("*")
    return sorted(p.name for p in inside if p.is_file() and p.suffix != ".lock")


# ---------------------------------------------------------------- the table


def test_plain_files_lie_where_ogbench_looks_for_them():
    assert SERVER == ogbench.utils.DATASET_URL
    plain = [name for name in known_names() if "-100m" not in name]
    assert {DOMAIN_OF[name] for name in plain} == set(DOMAIN_OF.values()) - {"cube-octuple"}
    for name in plain:
        assert remote_files(name) == (f"{name}-v0.npz", f"{name}-v0-val.npz")


def test_shards_are_numbered_within_a_folder():
    files = remote_files("cube-quadruple-play-100m-v0")
    assert len(files) == 200
    folder = "cube-quadruple-play-100m-v0/cube-quadruple-play-v0"
    assert files[:3] == (f"{folder}-000.npz", f"{folder}-000-val.npz", f"{folder}-001.npz")
    assert files[-1] == f"{folder}-099-val.npz"
    assert len(remote_files("humanoidmaze-giant-navigate-100m")) == 50
    assert remote_files("cube-quadruple-play-100m", shards=1) == files[:2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cube-duoble-play", 'found "cube-duoble-play".*did you mean "cube-double-play"'),
        (
            "cube-octuple-play",
            r"only the folder cube-octuple-play-100m.*\n.*data generate cube-oct",
        ),
        ("cube-octuple-noisy", r"no file of it.*\n.*qamx data generate cube-octuple-noisy"),
        ("cube-single-play-100m", r"folders of shards only of.*\n.*cube-single.*--shards 100"),
        ("antmaze-giant-navigate-100m", r"qamx data expert ant .*generate antmaze-giant-navigate"),
    ],
)
def test_a_set_that_is_not_to_be_had_is_said_to_be_so(tmp_path, server, name, said):
    with pytest.raises(UserError, match=rf"(?s){said}"):
        fetch(server, tmp_path, name)
    assert server.requests == []


@pytest.mark.parametrize(("name", "shards"), [(NAME, 2), ("scene-play-100m", 0)])
def test_a_number_of_shards_must_be_there(tmp_path, server, name, shards):
    assert "--shards" in refused(server, tmp_path, name, shards=shards)


def test_the_server_can_be_named(monkeypatch):
    monkeypatch.delenv("QAMX_MIRROR", raising=False)
    assert server_urls(None) == (SERVER, COPY)
    monkeypatch.setenv("QAMX_MIRROR", "http://mirror/a/")
    assert server_urls(None) == ("http://mirror/a",)
    assert server_urls("https://other") == ("https://other",)
    with pytest.raises(UserError, match=r"mirror: found data; write the address"):
        server_urls("data")


def test_neither_the_command_nor_its_checks_import_jax():
    code = """
import sys
from qamx.data.ogbench import download
from qamx.data import validation
print({"jax", "ogbench", "mujoco", "requests", "rich"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------- a good server


def test_a_set_arrives_and_its_hashes_are_recorded(tmp_path, server):
    files = fetch(server, tmp_path)
    assert files == [tmp_path / TRAIN, tmp_path / VAL]
    assert [file.read_bytes() for file in files] == [TRAINING, HELD_OUT]
    assert json.loads((tmp_path / "hashes.json").read_text())[TRAIN] == {
        "sha256": sha256(TRAINING),
        "size": SIZE,
        "source": f"{server.url}/{TRAIN}",
    }
    assert (server.sent(TRAIN), server.sent(VAL)) == ([SIZE], [len(HELD_OUT)])
    assert leftovers(tmp_path) == []


def test_a_set_that_is_there_is_verified_without_the_server(tmp_path, server, capsys):
    fetch(server, tmp_path)
    asked = len(server.requests)
    command = ["data", "download", NAME, "--directory", str(tmp_path), "--mirror", server.url]
    assert main(command) == 0
    assert len(server.requests) == asked
    said = capsys.readouterr().out
    assert set(said.splitlines()) == {
        f"{tmp_path / file}: ok, {format_bytes(len(content))}, as recorded"
        for file, content in ((TRAIN, TRAINING), (VAL, HELD_OUT))
    }


def test_the_first_files_of_a_folder_are_fetched_and_more_later(tmp_path, server):
    name = "cube-triple-play-100m"
    every = remote_files(name)
    server.files = {file: archive(seed) for seed, file in enumerate(every[:6])}
    files = fetch(server, tmp_path, name, shards=2)
    assert files == [tmp_path / file for file in every[:4]]
    fetch(server, tmp_path, name, shards=3)
    assert [file.read_bytes() for file in files] == [archive(seed) for seed in range(4)]
    assert [len(server.gets(file)) for file in every[:6]] == [1] * 6
    assert set(read_records(tmp_path)) == set(every[:6])


def test_several_files_travel_at_a_time(tmp_path, server):
    server.script = {TRAIN: [Answer(stall=CUT)], VAL: [Answer(stall=CUT // 4)]}
    options = {"retry_policy": RetryPolicy(stall=10.0, pause=0.01)}
    thread = threading.Thread(target=fetch, args=(server, tmp_path), kwargs=options)
    thread.start()
    for file in (TRAIN, VAL):  # both are asked for, though neither has come to its end
        server.wait_for(file, 1)
    server.release.set()
    thread.join()
    assert (tmp_path / TRAIN).read_bytes() == TRAINING


def test_a_server_that_answers_no_head_is_asked_all_the_same(tmp_path, server):
    server.heads = False
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING


def test_a_whole_part_is_not_asked_for_again(tmp_path, server, monkeypatch):
    def killed(part, path, move=PartialFile.move_to):
        if part.path == part_of(tmp_path):
            raise KeyboardInterrupt
        move(part, path)

    with monkeypatch.context() as patched:
        patched.setattr(PartialFile, "move_to", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(server, tmp_path)
    assert part_of(tmp_path).stat().st_size == SIZE
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.sent(TRAIN) == [SIZE]


# ---------------------------------------------------------------- broken connections


@pytest.mark.parametrize("broken", [Answer(cut=CUT), Answer(stall=CUT)], ids=["cut", "stalled"])
def test_a_broken_transfer_goes_on_where_it_was(tmp_path, server, broken):
    server.script[TRAIN] = [broken]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-"]
    assert server.sent(TRAIN) == [CUT, SIZE - CUT]
    assert server.gets(TRAIN)[1].if_range == f'"{hashlib.md5(TRAINING).hexdigest()}"'


def test_attempts_that_bring_something_are_not_counted(tmp_path, server):
    server.script[TRAIN] = [Answer(cut=500) for _ in range(6)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.sent(TRAIN) == [500] * 6 + [SIZE - 3000]


def test_after_vain_attempts_what_has_arrived_is_kept_for_the_same_command(tmp_path, server):
    server.script[TRAIN] = [Answer(cut=CUT), Answer(cut=0), Answer(cut=0)]
    said = refused(server, tmp_path)
    assert "3 times in a row" in said
    assert f"{format_bytes(CUT)} of unfinished files are kept: the same command continues" in said
    assert f"qamx data generate {NAME} --directory {tmp_path}" in said
    assert not (tmp_path / TRAIN).exists()
    assert part_of(tmp_path).stat().st_size == CUT

    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, *[f"bytes={CUT}-"] * 3]
    assert server.sent(TRAIN) == [CUT, 0, 0, SIZE - CUT]
    assert leftovers(tmp_path) == []


def test_silence_is_bounded(tmp_path, server):
    server.script[TRAIN] = [Answer(stall=0) for _ in range(3)]
    began = time.monotonic()
    assert "no byte came for 0.1 seconds, 3 times in a row" in refused(
        server, tmp_path, retry_policy=RetryPolicy(stall=0.1, attempts=3, pause=0.01)
    )
    assert time.monotonic() - began < 2.0


def test_passing_trouble_of_the_server_is_waited_for(tmp_path, server):
    asked = {"Retry-After": "60"}
    server.script[TRAIN] = [Answer(status=500), Answer(status=503, headers=asked)]
    began = time.monotonic()
    fetch(server, tmp_path, retry_policy=RetryPolicy(stall=0.3, pause=0.01, longest_pause=0.2))
    assert 0.2 <= time.monotonic() - began < 5.0
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.sent(TRAIN) == [0, 0, SIZE]


def test_a_transfer_that_is_told_to_stop_asks_no_more(tmp_path, server):
    server.script[TRAIN] = [Answer(status=503)]
    stop = threading.Event()
    stop.set()
    transfer = Transfer(PartialFile(tmp_path / "part"), QUICK, stop, lambda size: None)
    with pytest.raises(Cancelled):
        transfer.run(f"{server.url}/{TRAIN}")
    assert server.sent(TRAIN) == [0]


def test_trouble_that_stays_is_an_error(tmp_path, server):
    server.script[TRAIN] = [Answer(status=502) for _ in range(3)]
    assert "answers 502 Bad Gateway, 3 times in a row" in refused(server, tmp_path)


def test_pauses_double_up_to_a_limit():
    policy = RetryPolicy(pause=1.0, longest_pause=5.0)
    assert [policy.pause_after(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 5.0]
    assert policy.pause_after(1, requested=3.0) == 3.0
    assert policy.pause_after(1, requested=99.0) == 5.0


def test_redirects_are_followed_and_resumed(tmp_path, server):
    there = Answer(status=302, headers={"Location": f"{server.url}/elsewhere.npz"})
    server.files["elsewhere.npz"] = TRAINING
    server.script |= {TRAIN: [there, there], "elsewhere.npz": [Answer(cut=CUT)]}
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges("elsewhere.npz") == [None, f"bytes={CUT}-"]
    assert server.sent("elsewhere.npz") == [CUT, SIZE - CUT]


# ---------------------------------------------------------------- versions and ranges


def test_a_server_that_ignores_ranges_sends_all_again(tmp_path, server):
    server.script[TRAIN] = [Answer(cut=CUT), Answer(ranges=False)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-"]
    assert server.sent(TRAIN) == [CUT, SIZE]


def test_a_server_that_refuses_ranges_is_asked_for_all(tmp_path, server):
    server.script[TRAIN] = [Answer(cut=CUT), Answer(status=416)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-", None]
    assert server.sent(TRAIN) == [CUT, 0, SIZE]


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_is_not_spliced(tmp_path, server, careless):
    new = archive(2, rows=401)
    server.script[TRAIN] = [Answer(cut=CUT)]
    refused(server, tmp_path, retry_policy=RetryPolicy(attempts=1))
    server.files[TRAIN] = new
    server.script[TRAIN] = [Answer(careless=careless)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == new
    # A server that heeds If-Range sends the new file; with one that does not, the ETag is seen.
    again = [None] if careless else []
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-", *again]


def test_a_range_that_begins_elsewhere_is_not_taken(tmp_path, server):
    odd = {"Content-Range": f"bytes {CUT - 1}-{SIZE - 1}/{SIZE}"}
    server.script[TRAIN] = [
        Answer(cut=CUT),
        Answer(status=206, headers=odd, body=TRAINING[CUT - 1 :]),
    ]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-", None]


@pytest.mark.parametrize(
    ("validators", "headers", "resumes"),
    [
        ((), {}, None),
        (("ETag",), {"ETag": 'W/"weak"'}, None),
        (("Last-Modified",), {}, "Thu, 01 Jan 2026 00:00:00 GMT"),
        (("ETag", "Last-Modified"), {"ETag": 'W/"weak"'}, "Thu, 01 Jan 2026 00:00:00 GMT"),
    ],
    ids=["none", "weak", "date", "date beside weak"],
)
def test_only_what_can_be_compared_is_gone_on_with(tmp_path, server, validators, headers, resumes):
    server.validators = validators
    server.script[TRAIN] = [Answer(cut=CUT, headers=headers), Answer(headers=headers)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    second = server.gets(TRAIN)[1]
    assert second.if_range == resumes
    assert second.range == (f"bytes={CUT}-" if resumes else None)
    assert second.sent == (SIZE - CUT if resumes else SIZE)


# ---------------------------------------------------------------- wrong content

PAGE = b"<!DOCTYPE html><title>Sign in</title>"
LARGER = archive(3, rows=2000)
FLIPPED = bytes([*LARGER[:1000], LARGER[1000] ^ 1, *LARGER[1001:]])
OTHER = io.BytesIO()
np.savez(OTHER, pictures=np.zeros(9))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (PAGE, "no data set (it begins '<!DOCTYPE html><title>Sign in</title>'), twice"),
        (FLIPPED, "damaged (observations.npy does not fit its checksum), twice"),
        (OTHER.getvalue(), "observations: missing; the file has pictures"),
        (TRAINING[:-30], "no data set ("),
    ],
    ids=["page", "flipped bit", "other arrays", "cut archive"],
)
def test_what_is_no_data_set_is_asked_for_once_more(tmp_path, server, wrong, said):
    server.script[TRAIN] = [Answer(body=wrong), Answer(body=wrong)]
    message = refused(server, tmp_path)
    assert said in message
    assert message.startswith(f"{server.url}/{TRAIN}: ")
    assert not (tmp_path / TRAIN).exists()
    assert TRAIN not in read_records(tmp_path)
    assert f"{TRAIN}.part" not in leftovers(tmp_path)
    assert server.sent(TRAIN) == [len(wrong)] * 2

    server.script[TRAIN] = [Answer(body=wrong)]
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None] * 4


def test_another_file_than_the_recorded_one_is_refused(tmp_path, server):
    fetch(server, tmp_path)
    (tmp_path / TRAIN).unlink()
    server.files[TRAIN] = new = archive(2)
    said = refused(server, tmp_path)
    assert f"expected {sha256(TRAINING)} but got {sha256(new)}" in said
    assert "--force takes it as it is now" in said
    assert not (tmp_path / TRAIN).exists()
    assert server.sent(TRAIN) == [SIZE, len(new), len(new)]

    fetch(server, tmp_path, again=True)
    assert (tmp_path / TRAIN).read_bytes() == new
    assert read_records(tmp_path)[TRAIN].sha256 == sha256(new)


# ---------------------------------------------------------------- the second address


@pytest.fixture
def copy():
    server = FileServer()
    server.files = {TRAIN: TRAINING, VAL: HELD_OUT}
    yield server
    server.close()


@pytest.fixture
def silent():
    """The address of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def both(monkeypatch, copy):
    """Downloads from a first address and, where that fails, the copy."""
    monkeypatch.delenv("QAMX_MIRROR", raising=False)

    def fetch(first, directory, *names, second=copy.url, **options):
        monkeypatch.setattr(catalogue, "SERVER", first)
        monkeypatch.setattr(catalogue, "COPY", second)
        return download(names or (NAME,), directory=directory, retry_policy=QUICK, **options)

    return fetch


REFUSING = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (REFUSING, "cannot be reached ("),
        ("http://no-such-host.invalid/a", "cannot be reached ("),
        ("silent", "cannot be reached ("),
        ([Answer(status=503)] * 9, "the server answers 503 Service Unavailable, 3 times in a row"),
        ([Answer(cut=0)] * 9, ", 3 times in a row; asking"),
        ([Answer(stall=0)] * 9, "no byte came for 0.5 seconds, 3 times in a row"),
        ([Answer(status=403)], "access is refused (the server answers 403"),
        ([Answer(status=404)], "not there (the server answers 404"),
        ([Answer(status=400)], "the server answers 400"),
        ([Answer(body=b"<html>down</html>")] * 2, "no data set (it begins '<html>down</html>')"),
        (None, "not there (the server answers 404"),
    ],
    ids=[
        *("refused", "no host", "silent", "503", "cut", "stalled"),
        *("403", "404", "400", "page", "absent"),
    ],
)
def test_a_second_address_is_asked_where_the_first_fails(
    tmp_path, server, copy, both, silent, caplog, first, said
):
    caplog.set_level(logging.INFO, "qamx")
    url = {"silent": silent}.get(first, first) if isinstance(first, str) else server.url
    if isinstance(first, list):
        server.script[TRAIN] = list(first)
    elif first is None:
        server.files = {}
    both(url, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert read_records(tmp_path)[TRAIN].source == f"{copy.url}/{TRAIN}"
    assert copy.sent(TRAIN) == [SIZE]
    shown = caplog.text
    assert f"{url}/{TRAIN}: " in shown or f"{url}/{VAL}: " in shown
    assert said in shown
    assert f"; asking {copy.url}" in shown
    if isinstance(first, list):  # it answered: what else it has comes from there
        assert f"2 files from {server.url}, " in shown
    else:
        assert f"2 files from {copy.url}, " in shown


def test_a_first_address_that_answers_is_the_only_one(tmp_path, server, copy, both):
    server.script[TRAIN] = [Answer(cut=CUT), Answer(status=503)]
    both(server.url, tmp_path)
    assert copy.requests == []


def test_a_mirror_is_asked_alone(tmp_path, server, copy, monkeypatch):
    monkeypatch.setattr(catalogue, "COPY", copy.url)
    server.script[TRAIN] = [Answer(status=503)] * 3
    said = refused(server, tmp_path)
    assert f"--mirror (or QAMX_MIRROR) is asked alone; without it {SERVER} and {copy.url}" in said
    assert copy.requests == []


SPLICED = archive(2)


@pytest.mark.parametrize(
    ("recorded", "there", "answers", "ranges", "sent"),
    [
        (False, TRAINING, [], [None], [SIZE]),
        (True, TRAINING, [], [f"bytes={CUT}-"], [SIZE - CUT]),
        (True, TRAINING, [Answer(ranges=False)], [f"bytes={CUT}-"], [SIZE]),
        (True, TRAINING, [Answer(cut=50)], [f"bytes={CUT}-", f"bytes={CUT + 50}-"], None),
    ],
    ids=["unknown hash", "known hash", "no ranges", "cut again"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "the next command"])
def test_what_the_first_brought_is_gone_on_with_only_under_a_known_hash(
    tmp_path, server, copy, both, at_once, recorded, there, answers, ranges, sent
):
    if recorded:
        both(server.url, tmp_path)
        (tmp_path / TRAIN).unlink()
    server.script[TRAIN] = [Answer(cut=CUT), *[Answer(status=503)] * 9]
    copy.files[TRAIN], copy.script[TRAIN] = there, list(answers)
    if at_once:
        both(server.url, tmp_path)
    else:
        with pytest.raises(UserError):
            both(server.url, tmp_path, second=REFUSING)
        assert part_of(tmp_path).stat().st_size == CUT
        both(REFUSING, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert copy.ranges(TRAIN) == ranges
    assert sent is None or copy.sent(TRAIN) == sent


@pytest.mark.parametrize(
    ("there", "sent"),
    [(SPLICED, [SIZE - CUT, SIZE]), (archive(2, rows=300), None)],
    ids=["same size", "another size"],
)
def test_two_versions_never_make_one_file(tmp_path, server, copy, both, there, sent):
    assert len(SPLICED) == SIZE
    both(server.url, tmp_path)
    (tmp_path / TRAIN).unlink()
    server.script[TRAIN] = [Answer(cut=CUT), *[Answer(status=503)] * 3]
    copy.files[TRAIN] = there
    with pytest.raises(UserError) as error:
        both(server.url, tmp_path)
    said = str(error.value)
    assert f"{server.url}/{TRAIN}: the server answers 503" in said
    assert f"{copy.url}/{TRAIN}: twice not the file that was recorded (expected " in said
    assert not (tmp_path / TRAIN).exists()
    assert sent is None or copy.sent(TRAIN) == sent
    assert copy.ranges(TRAIN)[-1] is None
    copy.files[TRAIN] = TRAINING
    both(REFUSING, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (REFUSING, REFUSING + "0", ["{first}/{file}: cannot be", "{second}/{file}: cannot be"]),
        (REFUSING, None, ["{first}/{file}: cannot be reached", "{second}/{file}: not there"]),
        (None, None, ["{first}/{file}: not there", "{second}/{file}: not there", "Names near "]),
    ],
    ids=["out of reach", "not at the second", "nowhere"],
)
def test_a_failure_names_both_addresses_and_the_option(
    tmp_path, server, copy, both, first, second, lines
):
    server.files = copy.files = {}
    urls = {"first": first or server.url, "second": second or copy.url}
    with pytest.raises(UserError) as error:
        both(urls["first"], tmp_path, second=urls["second"], jobs=1)
    said = str(error.value)
    for line in lines:
        assert line.format(file=TRAIN, **urls) in said
    assert "\n--mirror URL (or QAMX_MIRROR) names another server that has the files.\n" in said
    assert f"qamx data generate {NAME} --directory {tmp_path}" in said


def test_the_copy_is_not_asked_for_shards(tmp_path, copy, both):
    with pytest.raises(UserError) as error:
        both(REFUSING, tmp_path, "cube-triple-play-100m", shards=1)
    assert copy.requests == []
    assert f"\n{copy.url} has no folders of shards. --mirror URL (or" in str(error.value)


def test_a_file_whose_hash_is_published_must_have_it(tmp_path, server, copy, both, monkeypatch):
    assert PUBLISHED["cube-double-play-v0.npz"].size == 297_435_656
    assert PUBLISHED["cube-double-play-v0.npz"].sha256.startswith("a73d1a33d029cedb8bc170ef94791ec")
    monkeypatch.setitem(PUBLISHED, TRAIN, Record(sha256(TRAINING), SIZE, ""))
    server.files[TRAIN] = SPLICED
    both(server.url, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    both(server.url, tmp_path, again=True)
    assert (tmp_path / TRAIN).read_bytes() == SPLICED
    (tmp_path / "elsewhere").mkdir()
    fetch(server, tmp_path / "elsewhere")  # a mirror of one's own is taken at its word
    assert (tmp_path / "elsewhere" / TRAIN).read_bytes() == SPLICED


def test_the_size_is_learned_where_the_copy_sends_on(monkeypatch):
    hop = SimpleNamespace(headers={"X-Linked-Size": "297435656"})
    answer = SimpleNamespace(status_code=403, headers={}, history=[hop])
    monkeypatch.setattr("requests.head", lambda *_, **__: answer)
    assert remote_size(f"{COPY}/{TRAIN}", QUICK) == 297_435_656


# ---------------------------------------------------------------- refusals


def test_a_missing_file_is_said_at_once_with_names_near(tmp_path, server):
    said = refused(server, tmp_path, "cube-double-play", NAME)
    assert re.search(r"cube-double-play-v0(-val)?\.npz: not there \(the server answers 404", said)
    assert "Names near cube-double-play: cube-double-play-100m" in said
    assert all(request.method == "HEAD" for request in server.requests)
    assert not (tmp_path / TRAIN).exists()


def test_refused_access_is_not_tried_again(tmp_path, server):
    server.script[TRAIN] = [Answer(status=403)]
    said = refused(server, tmp_path)
    assert f"{server.url}/{TRAIN}: access is refused (the server answers 403" in said
    assert server.sent(TRAIN) == [0]


def test_a_server_out_of_reach_is_one_message(tmp_path):
    with pytest.raises(UserError) as error:
        download([NAME], directory=tmp_path, mirror="http://127.0.0.1:9", progress=False)
    said = str(error.value)
    assert "cannot be reached" in said
    assert "Connection refused" in said
    assert f"qamx data generate {NAME} --directory {tmp_path}" in said


def test_room_is_looked_for_before_anything_is_fetched(tmp_path, server, monkeypatch):
    class Usage:
        free = SIZE - CUT + len(HELD_OUT) - 1

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    said = refused(server, tmp_path)
    assert (
        f"{format_bytes(SIZE + len(HELD_OUT))} are to come and {format_bytes(Usage.free)} are free"
        in said
    )
    assert server.sent(TRAIN) == []

    # What has arrived needs no more room.
    Usage.free += CUT + 1
    server.script[TRAIN] = [Answer(cut=CUT)]
    refused(server, tmp_path, retry_policy=RetryPolicy(attempts=1))
    Usage.free = SIZE - CUT + (0 if (tmp_path / VAL).exists() else len(HELD_OUT))
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING


def test_a_disk_that_fills_up_is_one_message(tmp_path, server):
    part = part_of(tmp_path)
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    said = refused(server, tmp_path)
    assert f"{part}: can't be written (No space left on device); make room" in said
    assert len(server.gets(TRAIN)) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path, server):
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/.downloads: can't be made" in refused(server, tmp_path / "file")


def test_the_folder_of_a_set_may_be_on_another_disk(tmp_path, server, monkeypatch):
    def replace(source, target, real=os.replace):
        if Path(source).parent.name == f"{NAME}-v0" and Path(target).parent == tmp_path:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert leftovers(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {TRAIN, VAL, "hashes.json", ".downloads"}


def test_an_error_of_the_disk_is_one_message(tmp_path, server, monkeypatch):
    def replace(source, target, replace=os.replace):
        if Path(target).name != "wanted.json":
            raise OSError(errno.EIO, "Input/output error", str(target))
        replace(source, target)

    monkeypatch.setattr("os.replace", replace)
    said = refused(server, tmp_path)
    assert "Input/output error" in said
    assert "the same command continues" in said


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs_are_positive(tmp_path, server, jobs):
    assert f"--jobs: found {jobs}" in refused(server, tmp_path, jobs=jobs)


# ---------------------------------------------------------------- files that are there


def test_a_file_that_changed_is_named_with_both_hashes(tmp_path, server):
    fetch(server, tmp_path)
    changed = FLIPPED
    (tmp_path / TRAIN).write_bytes(changed)
    said = refused(server, tmp_path)
    assert said.startswith(f"{tmp_path / TRAIN}: changed\n  then: {SIZE:,} bytes, SHA-256 ")
    assert sha256(TRAINING) in said
    assert sha256(changed) in said
    assert "--force" in said
    assert len(server.gets(TRAIN)) == 1
    fetch(server, tmp_path, again=True)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    fetch(server, tmp_path)


def test_a_file_from_elsewhere_is_recorded_if_it_is_sound(tmp_path, server):
    (tmp_path / TRAIN).write_bytes(PAGE)
    assert f"{tmp_path / TRAIN}: no data set" in refused(server, tmp_path)
    (tmp_path / TRAIN).write_bytes(TRAINING)
    fetch(server, tmp_path)
    assert server.gets(TRAIN) == []
    assert read_records(tmp_path)[TRAIN].sha256 == sha256(TRAINING)


@pytest.mark.parametrize("again", [False, True])
def test_a_generated_file_is_neither_replaced_nor_taken_for_ogbench_s(tmp_path, server, again):
    train, _ = generate(NAME, episodes=1, directory=tmp_path, workers=1, progress=False)
    before = train.read_bytes()
    said = refused(server, tmp_path, again=again)
    assert said.startswith(f"{train}: generated here (episodes 1, seed 0, shard 0, ")
    assert train.read_bytes() == before
    assert server.requests == []
    assert not (tmp_path / "hashes.json").exists()


def test_records_that_cannot_be_read_are_named(tmp_path, server):
    (tmp_path / "hashes.json").write_text('{"a": 1}')
    said = refused(server, tmp_path)
    assert said.startswith(f"{tmp_path / 'hashes.json'}: not a record of hashes")


def test_no_record_is_lost_between_many_writers(tmp_path):
    def keep(index):
        add_record(tmp_path, str(index), Record("0", index, ""))

    map_in_threads(keep, range(40), 8, threading.Event())
    assert {record.size for record in read_records(tmp_path).values()} == set(range(40))


# ---------------------------------------------------------------- processes

PROGRAM = """
import signal, sys
from pathlib import Path
from qamx._utils.terminal import print_log
from qamx.data.ogbench.download import RetryPolicy, download
print_log()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
directory, mirror, name = sys.argv[1:]
policy = RetryPolicy(stall=120.0, pause=0.01)
download([name], directory=Path(directory), mirror=mirror, retry_policy=policy)
"""


def start(server, directory, stdout=subprocess.DEVNULL):
    program = [sys.executable, "-c", PROGRAM, str(directory), server.url, NAME]
    return subprocess.Popen(program, stdout=stdout, stderr=subprocess.PIPE, text=True)


def wait_until(there):
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_download_is_gone_on_with(tmp_path, server):
    server.script[TRAIN] = [Answer(stall=CUT)]
    process = start(server, tmp_path)
    part = part_of(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size == CUT and (tmp_path / VAL).exists())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / TRAIN).exists()
    assert leftovers(tmp_path) == [f"{TRAIN}.part", f"{TRAIN}.part.json", "wanted.json"]

    fetch(server, tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert server.ranges(TRAIN) == [None, f"bytes={CUT}-"]
    assert len(server.gets(VAL)) == 1
    assert leftovers(tmp_path) == []


def test_ctrl_c_ends_at_once_and_says_what_is_kept(tmp_path, server):
    server.script[TRAIN] = [Answer(stall=CUT)]
    process = start(server, tmp_path, stdout=subprocess.PIPE)
    part = part_of(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size == CUT and (tmp_path / VAL).exists())
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, _ = process.communicate()
    assert time.monotonic() - began < 60.0  # the 120 seconds of the stall are not sat out
    assert f"{format_bytes(CUT)} of unfinished files are kept: the same command continues." in said


def test_two_processes_share_one_download(tmp_path, server):
    server.script[TRAIN] = [Answer(stall=CUT)]
    first = start(server, tmp_path)
    server.wait_for(TRAIN, 1)
    second = start(server, tmp_path, stdout=subprocess.PIPE)
    assert second.stdout is not None
    said = second.stdout.readline()
    while "another process downloads it; waiting" not in said:
        assert said
        said = second.stdout.readline()
    server.release.set()
    for process in (first, second):
        _, complaint = process.communicate(timeout=30)
        assert process.returncode == 0, complaint
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    assert sum(server.sent(TRAIN)) == SIZE
    assert server.sent(VAL) == [len(HELD_OUT)]
    assert set(read_records(tmp_path)) == {TRAIN, VAL}


def test_another_set_is_not_waited_for(tmp_path, server):
    (tmp_path / ".downloads").mkdir()
    with filelock.FileLock(tmp_path / ".downloads" / "scene-play-v0.lock"):
        fetch(server, tmp_path)
    assert (tmp_path / TRAIN).exists()


# ---------------------------------------------------------------- what a run finds missing


def test_a_run_downloads_the_set_that_it_lacks(tmp_path, server, monkeypatch):
    monkeypatch.setenv("QAMX_MIRROR", server.url)
    assert find_files(f"{NAME}-v0", tmp_path) == [tmp_path / TRAIN]
    assert (tmp_path / TRAIN).read_bytes() == TRAINING
    find_files(f"{NAME}-v0", tmp_path)
    assert len(server.gets(TRAIN)) == 1
    (tmp_path / TRAIN).write_bytes(archive(2))
    with pytest.raises(UserError, match=rf"(?s)changed.*{sha256(TRAINING)}.*{sha256(archive(2))}"):
        find_files(f"{NAME}-v0", tmp_path)


def test_a_run_completes_a_folder_that_was_left_unfinished(tmp_path, server, monkeypatch):
    monkeypatch.setenv("QAMX_MIRROR", server.url)
    name = "cube-triple-play-100m"
    every = remote_files(name, shards=3)
    server.files = {file: archive(seed) for seed, file in enumerate(every)}
    server.script[every[2]] = [Answer(status=403)]
    refused(server, tmp_path, name, shards=3, jobs=1)
    assert len(list((tmp_path / f"{name}-v0").glob("*.npz"))) == 2

    shards = [tmp_path / file for file in every[::2]]
    assert find_files(f"{name}-v0", tmp_path) == shards
    assert [file.read_bytes() for file in shards] == [archive(seed) for seed in (0, 2, 4)]
    asked = len(server.requests)
    assert find_files(f"{name}-v0", tmp_path) == shards
    assert find_files(f"{name}-v0", tmp_path, shards=2) == shards[:2]
    assert len(server.requests) == asked


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("total", "said"),
    [(1_000_000, "1.6 MB of 4.0 MB, 3.9 kB/s, 10 min left"), (None, "1.6 MB, 3.9 kB/s")],
    ids=["known", "unknown"],
)
def test_lines_say_how_far_it_is(monkeypatch, caplog, total, said):
    now = [0.0]
    monkeypatch.setattr("qamx._utils.terminal.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "qamx")
    with DownloadProgress(
        {"a": FileSize(3_000_000, 1_000_000), "b": FileSize(total, 0)}
    ) as progress:
        progress.update("a", 1_500_000)
        now[0] = 31.0  # 120 kB later
        progress.update("b", 120_000)
        progress.update("b", 130_000)
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_bar_with_the_files_on_their_way_is_drawn_on_a_terminal(monkeypatch):
    shown = io.StringIO()
    console = functools.partial(Console, file=shown, force_terminal=True, width=160)
    monkeypatch.setattr("rich.console.Console", console)
    needs = {"folder/a.npz": FileSize(2_000_000, 0), "folder/b.npz": FileSize(None, 0)}
    with DownloadProgress(needs) as progress:
        progress.update("folder/a.npz", 1_000_000)
        progress.update("folder/b.npz", 500_000)
        progress.update("folder/b.npz", 600_000, complete=True)
    last = [line for line in shown.getvalue().splitlines() if "2 files" in line][-1]
    assert "1.6 MB/?" in last
    assert "a.npz" in last
    assert "b.npz" not in last


def test_sizes_are_format_bytes():
    assert [format_bytes(n) for n in (7, 1_500, 2_992_533, 35_100_000_000)] == [
        "7 bytes",
        "1.5 kB",
        "3.0 MB",
        "35.1 GB",
    ]

"""Ctrl-C: answered at once, also while the main thread computes outside Python."""

import contextlib
import hashlib
import logging
import os
import signal
import threading

import pytest

from qamx.training import guards
from qamx.training.guards import ACKNOWLEDGED, StopRequest, acknowledge_interrupts


class Heard(logging.Handler):
    """Notes messages, and whether Python's own handler had run before."""

    def __init__(self, stop):
        super().__init__()
        self.stop, self.notes = stop, []

    def emit(self, record):
        self.notes.append((record.getMessage(), self.stop.made))


@pytest.fixture
def stop():
    return StopRequest()


@pytest.fixture
def heard(stop):
    handler, log = Heard(stop), logging.getLogger("qamx")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler.notes
    log.removeHandler(handler)
    log.setLevel(level)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def compute():
    """Work in C like a compilation: it lets threads run, and no handler of the main thread."""
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 4_000_000)


def test_an_interrupt_is_answered_while_python_s_handler_waits(stop, heard):
    for _ in range(3):  # a loaded machine may interrupt before the work begins
        stop.made = False
        with acknowledge_interrupts(), stop.listening():
            timer = threading.Timer(0.3, interrupt)
            timer.start()
            compute()
            timer.join()
        assert stop.made
        if (ACKNOWLEDGED, False) in heard:
            break
    assert (ACKNOWLEDGED, False) in heard


def test_a_second_interrupt_ends_what_does_not_answer(stop, heard, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(guards, "QUIT_SECONDS", 0.1)
    monkeypatch.setattr(guards.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(guards, "end_all_children", lambda: None)
    with acknowledge_interrupts(), stop.listening():
        with contextlib.suppress(KeyboardInterrupt):
            interrupt()
            interrupt()
        assert ended.wait(30)
    assert [message for message, _ in heard] == [ACKNOWLEDGED]


def test_the_way_of_signals_is_put_back(stop):
    before = signal.set_wakeup_fd(-1)
    try:
        with acknowledge_interrupts(), stop.listening():
            pass
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)


def test_other_threads_hear_no_signals():
    done = []

    def work():
        with acknowledge_interrupts():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]

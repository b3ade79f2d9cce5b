"""A point that must reach the corner of a square, and ways in which its simulator fails.

Without JAX, so that a process that plays it starts at once.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from qamx.envs import Step

LIMIT = 17


class Corner:
    """A point in [-1, 1]^2, moved by a tenth of the action; solved near (1, 1)."""

    observation_size, action_size = 2, 2

    def reset(self, seed):
        self._rng = np.random.default_rng(seed)
        self._x = self._rng.uniform(-1, 1, 2).astype(np.float32)
        self._steps = 0
        return self._x

    def step(self, action):
        noise = self._rng.normal(0, 0.01, 2)
        self._x = np.clip(self._x + 0.1 * action + noise, -1, 1).astype(np.float32)
        self._steps += 1
        solved = bool(np.linalg.norm(self._x - 1) < 0.3)
        return Step(self._x, float(solved) - 1.0, solved, self._steps == LIMIT, solved)

    def close(self):
        pass


class Sharing(Corner):
    """Returns one buffer, writes to it later, and changes the actions that it gets."""

    def reset(self, seed):
        self._buffer = np.array(super().reset(seed))
        return self._buffer

    def step(self, action):
        step = super().step(action)
        action *= 0.5
        self._buffer[:] = step.observation
        return replace(step, observation=self._buffer)


class Says(Corner):
    """Answers its first step with something else in one part of it, or in its place."""

    def __init__(self, part, value):
        self._part, self._value = part, value

    def reset(self, seed):
        return self._value if self._part == "reset" else super().reset(seed)

    def step(self, action):
        step = super().step(action)
        return self._value if self._part == "step" else replace(step, **{self._part: self._value})


class Silent(Corner):
    """Does not say before an episode's end whether it is solved."""

    max_episode_steps = LIMIT

    def step(self, action):
        step = super().step(action)
        return step if step.done else replace(step, success=None)


class Brief(Corner):
    """Its episodes end with their second step."""

    def step(self, action):
        step = super().step(action)
        return replace(step, truncated=self._steps == 2)


class Unstable(Corner):
    """Fails in its second step."""

    def step(self, action):
        if self._steps == 1:
            raise ValueError("the simulator is unstable")
        return super().step(action)


class Unready(Corner):
    """Fails in its reset."""

    def reset(self, seed):
        raise OSError("no such scene")


class Unmade(Corner):
    """Cannot be constructed."""

    def __init__(self):
        raise KeyError("scene")


class Dying(Corner):
    """Is killed in its second step, as by a system without memory."""

    def step(self, action):
        if self._steps == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Leaving(Corner):
    """Ends its process in its second step."""

    def step(self, action):
        if self._steps == 1:
            os._exit(3)
        return super().step(action)


class Hanging(Corner):
    """Does not return from its second step."""

    def step(self, action):
        if self._steps == 1:
            time.sleep(60.0)
        return super().step(action)


class Doing(Corner):
    """Calls something at one place: where it is made, or in its reset, step or close."""

    def __init__(self, place, call):
        self._place, self._call = place, call
        self._reach("made")

    def _reach(self, place):
        if place == self._place:
            self._call()

    def reset(self, seed):
        self._reach("reset")
        return super().reset(seed)

    def step(self, action):
        self._reach("step")
        return super().step(action)

    def close(self):
        self._reach("close")


SECONDS = "CORNER_SECONDS"
"""The variable that says how long simulators sleep, by which those of a test are known."""


def simulators():
    """The simulators that are there."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] in (b"sleep", b"sh") and os.environ[SECONDS].encode() in words[-2].split():
            found.add(int(path.parent.name))
    return found


def child(**options):
    return subprocess.Popen(["sleep", os.environ[SECONDS]], **options)


def shell(script):
    return subprocess.Popen(["sh", "-c", script.format(os.environ[SECONDS])])


def in_fork():
    """A process that is forked and not started anew, which becomes a simulator."""
    words = ["sleep", os.environ[SECONDS]]
    process = multiprocessing.get_context("fork").Process(target=os.execvp, args=("sleep", words))
    process.start()
    return process


SIMULATORS = {
    "child": child,
    "grandchild": lambda: shell("sleep {0} & wait"),
    "orphan": lambda: shell("sleep {0} &"),
    "deaf": lambda: shell("trap '' TERM INT HUP; sleep {0}; sleep {0}"),
    "elsewhere": lambda: child(start_new_session=True),
    "bare": lambda: child(start_new_session=True, env={}),
    "daemon": lambda: shell("setsid sleep {0} & "),
    "fork": in_fork,
}


def forked():
    """A simulator that is this program, and that Python waits for at its end."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60.0,)).start()


class Simulated(Corner):
    """Starts a simulator where it is made, and ends in the second step as `end` says."""

    def __init__(self, kind, end=""):
        self._end, self._simulator = end, SIMULATORS[kind]()

    def step(self, action):
        if self._steps == 1:
            if self._end == "error":
                raise ValueError("the simulator is unstable")
            if self._end == "exit":
                os._exit(0)
            if self._end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._end == "hang":
                time.sleep(60.0)
            if self._end == "leave":
                sys.exit(4)
        return super().step(action)

    def close(self):
        if self._end == "bad close":
            raise ValueError("it does not close")
        self._simulator.terminate()
        wait = getattr(self._simulator, "wait", None) or self._simulator.join
        wait()


class Restarting(Corner):
    """Starts a simulator at each reset, and ends it."""

    def __init__(self, kind):
        self._kind = kind

    def reset(self, seed):
        simulator = SIMULATORS[self._kind]()
        simulator.terminate()
        (getattr(simulator, "wait", None) or simulator.join)()
        return super().reset(seed)


def collect(collector, act):
    """One step of a collector, with a chunk of `act` where one is needed."""
    if collector.needs_chunk:
        collector.load(act(collector.observation[None], collector.calls)[0])
    return collector.take()

"""The corner problem under `corner:`, and the fault that `QAMX_FAULT` asks for.

`QAMX_FAULT` is `PLACE@STEP`: the process sends itself SIGKILL there, or another signal, or meets
the named failure.
"""

import os
import signal
import sys
import time
from pathlib import Path

from qamx import registry
from qamx.config.experiment import DataSettings, EnvironmentSettings

sys.path.insert(0, str(Path(__file__).parent.parent))


def make_environment(settings):
    from corner import SECONDS, child
    from toy import Corner

    class Simulated(Corner):
        """Starts a simulator where it is made, which its `close` ends."""

        def __init__(self):
            super().__init__()
            self._simulator = child()

        def close(self):
            self._simulator.terminate()
            self._simulator.wait()

    return Simulated if SECONDS in os.environ else Corner


def make_data(settings, environment):
    from toy import RandomWalks

    data = RandomWalks(shards=3, updates_per_shard=12)
    place, _, _ = os.environ.get("QAMX_FAULT", "").partition("@")
    return Poisoned(data) if place == "nan" else data


class Poisoned:
    """Data in which the square of one reward is infinite in float32."""

    def __init__(self, data):
        self._data, self.shards, self.updates_per_shard = data, data.shards, data.updates_per_shard

    def load(self, shard):
        rows = self._data.load(shard)
        rows.rewards[100] = 1e30
        return rows


registry.register_environment(
    "corner", settings=EnvironmentSettings, builder="corner_plugin:make_environment", summary="toy"
)
registry.register_dataset(
    "corner", settings=DataSettings, builder="corner_plugin:make_data", summary="toy"
)


def hit(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def replace(owner, name, value):
    setattr(owner, name, value)


def inject(place, step):
    """Lets the fault happen at `place` once the run has reached `step`."""
    from qamx.training import checkpoint, evaluator, loop, seed_group

    reached = [0]
    replace(loop, "DISPATCH_SECONDS", 0.0)  # an event after each update, so that no step is missed
    events = loop.Runner._finish_step

    def note(self, *arguments):
        if place in ("step", "SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") and self._step == step:
            hit() if place == "step" else hit(getattr(signal, place))
        reached[0] = self._step
        events(self, *arguments)
        if os.environ.get("QAMX_PROGRESS"):
            print(f"at {self._step}", flush=True)

    replace(loop.Runner, "_finish_step", note)

    def before(owner, name):
        original = getattr(owner, name)

        def fault(*arguments, **named):
            if reached[0] >= step:
                hit()
            return original(*arguments, **named)

        replace(owner, name, fault)

    # Inside a save: before the replay's file, after Orbax's files, before the manifest.
    if place == "rows":
        before(seed_group.OnlineRows, "save")
    elif place == "manifest":
        before(checkpoint, "write_manifest")
    elif place == "commit":
        before(checkpoint.Path, "rename")
    elif place == "evaluation":
        before(evaluator, "_play_chunk")
    elif place in ("raise", "hang"):
        from toy import Corner

        from qamx.training import guards

        play = Corner.step

        def fail(self, action):
            if reached[0] < step:
                return play(self, action)
            if place == "raise":
                raise ValueError("the simulator is unstable")
            while True:
                time.sleep(60.0)

        replace(Corner, "step", fail)
        replace(guards, "LIMIT_SECONDS", 2.0)


fault = os.environ.get("QAMX_FAULT", "")
if fault or os.environ.get("QAMX_PROGRESS"):
    inject(fault.partition("@")[0], int(fault.partition("@")[2] or 0))

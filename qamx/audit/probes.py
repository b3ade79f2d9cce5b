"""What `qamx doctor` tries out in processes of their own: what may hang or die stays there."""

import os
import subprocess
import sys
from typing import NamedTuple

SECONDS = 20.0
"""After which a probe is given up: they run together, and the command is to end within 30."""

DEVICE = """
import os
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # look at the memory, leave it
import jax
from qamx.backend import check_jax
from qamx.errors import UserError
try:
    check_jax()
except UserError as error:
    raise SystemExit(str(error))
device = jax.devices()[0]
total = float(jax.numpy.arange(1000.0).sum())
assert total == 499500.0, f"a sum of numbers gives {total}"
limit = (device.memory_stats() or {}).get("bytes_limit")
memory = f", {limit / 2**30:.0f} GiB free to JAX" if limit else ""
print(f"{jax.default_backend()}: {len(jax.devices())} x {device.device_kind}{memory}")
"""

RENDERING = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 48, 64) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0, "the image is empty"
print("an image was drawn")
"""

ENVIRONMENT = """
import numpy as np
from qamx.envs import OGBenchEnvironment
env = OGBenchEnvironment("cube-single-play", 1)
env.reset(0)
for _ in range(10):
    step = env.step(np.zeros(env.action_size, np.float32))
assert np.isfinite(step.observation).all(), "an observation is not finite"
print("cube-single-play: 10 steps")
"""

BACKENDS = ("egl", "osmesa")
"""What MuJoCo can draw with without a display, the faster first."""

CHOOSING = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
"""The variables that choose what MuJoCo draws with; they must agree."""

INSTALL = "install EGL (Debian: apt-get install libegl1 libgl1) or OSMesa (libosmesa6)"


class Drawing(NamedTuple):
    """What MuJoCo draws with here.

    **Arguments:** `backend` is a value for `MUJOCO_GL` that draws, empty for MuJoCo's own choice,
    None without any; `said` tells what was tried; `remedy` what to do where the variables ask for
    what does not draw, or nothing does.
    """

    backend: str | None
    said: str
    remedy: str = ""


def drawing() -> Drawing:
    """Tries what the variables ask for, or a display; else, or if that fails, `BACKENDS`."""
    asked = {name: os.environ[name] for name in CHOOSING if os.environ.get(name, "").strip()}
    if not asked and sys.platform == "linux" and not _has_display():
        backend, said = drawing_backend()
        found = Drawing(backend, said)
        return found if backend else Drawing(None, f"nothing draws here ({said})", INSTALL)
    wanted = canonical(asked.get("MUJOCO_GL", ""))
    platform = canonical(asked.get("PYOPENGL_PLATFORM", ""))
    wanted = wanted or (platform if platform in BACKENDS else "")
    named = ", ".join(f"{name}={value}" for name, value in asked.items()) or "the display"
    works, last = probe(RENDERING, MUJOCO_GL=wanted)
    if works:
        return Drawing(wanted, f"{named}: {last}")
    failed = f"{named} does not draw here ({last})"
    backend, said = drawing_backend()
    if backend is None:
        return Drawing(None, f"{failed}, nor does anything else ({said})", INSTALL)
    wrong = [name for name, value in asked.items() if canonical(value) != backend]
    if not wrong:
        return Drawing(backend, f"{failed}; {said}")
    rather = f", or write MUJOCO_GL={backend}" if wrong == ["MUJOCO_GL"] else ""
    return Drawing(backend, failed, f"{backend} does: unset {' and '.join(wrong)}{rather}")


def drawing_backend() -> tuple[str | None, str]:
    """The first of `BACKENDS` that draws here, None without any; and what was said of them."""
    said = []
    for backend in BACKENDS:
        # Where it is set to another, this one could not be loaded.
        platform = {"PYOPENGL_PLATFORM": backend} if os.environ.get("PYOPENGL_PLATFORM") else {}
        works, last = probe(RENDERING, MUJOCO_GL=backend, **platform)
        if works:
            return backend, f"{backend}: {last}"
        said.append(f"{backend}: {last}")
    return None, "; ".join(said)


def canonical(value: str) -> str:
    """A backend as MuJoCo reads it; dm_control, of which OGBench makes use, takes no capitals."""
    return value.strip().lower()


def _has_display() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def probe(code: str, **variables: str) -> tuple[bool, str]:
    """Runs Python code in a process; whether it ended well, and the last line that it said."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {SECONDS:.0f} s"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1] if said else f"exit status {done.returncode}"

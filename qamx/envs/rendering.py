"""Rendering of environments."""

import importlib
import os
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from qamx._utils.processes import VARIABLES

Image = UInt8[np.ndarray, "height width 3"]


@runtime_checkable
class Renderable(Protocol):
    """An environment that draws itself.

    Drawing does not change the episode. `steps_per_second` is the rate of the actions, None where
    it is not known.
    """

    steps_per_second: float | None

    def render(self, size: int) -> Image:
        """The present state as an image about `size` pixels wide."""
        ...


class MujocoView:
    """A camera on a MuJoCo simulation; nothing is made before the first image.

    It shows the goal where the environment has put one into the scene.

    **Arguments:** `env` is the simulation's innermost environment, `camera` one of MuJoCo's;
    `aspect` is height over width; `shadows` show heights, and take longer.
    """

    def __init__(self, env: Any, camera: Any, aspect: float, *, shadows: bool):
        self._env, self._camera, self._aspect, self._shadows = env, camera, aspect, shadows
        self._renderer: Any = None
        self._of: tuple[Any, int] | None = None

    def image(self, size: int) -> Image:
        """The present state, `size` pixels wide."""
        mujoco, model = _mujoco(), self._env.model
        if self._of != (model, size):  # a reset may recompile the model
            self.close()
            height, view = round(size * self._aspect), model.vis.global_
            view.offwidth, view.offheight = max(view.offwidth, size), max(view.offheight, height)
            model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, 1024)  # on a CPU
            self._renderer, self._of = mujoco.Renderer(model, height, size), (model, size)
        renderer = self._renderer
        renderer.update_scene(self._env.data, camera=self._camera)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._shadows
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        return renderer.render()

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _mujoco() -> Any:
    """The package, which has no type stubs."""
    import mujoco

    return mujoco


def top_camera(low: np.ndarray, high: np.ndarray, top: float) -> tuple[Any, float]:
    """A camera above a rectangle of the ground, and its height over width.

    **Arguments:** `low` and `high` are corners of the rectangle in metres, `top` is the height of
    its walls.
    """
    mujoco = _mujoco()
    width, height = high - low
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (*((low + high) / 2), 0.0)
    camera.azimuth, camera.elevation = 90.0, -90.0
    camera.distance = top + height / 2 / np.tan(np.radians(45.0) / 2)  # of MuJoCo's field of view
    return camera, float(height / width)


def tracking_camera(env: Any, body: str, distance: float) -> Any:
    """A camera that follows a body."""
    mujoco = _mujoco()
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    camera.trackbodyid = env.model.body(body).id
    camera.distance, camera.azimuth, camera.elevation = distance, 90.0, -30.0
    return camera


def import_simulators(*packages: str) -> None:
    """Imports MuJoCo and packages around it, whatever backend the variables choose.

    They are read at the import alone. Acting draws nothing; `qamx video` tests the backend before.
    """
    asked = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not asked:
        return
    try:
        _import("mujoco", *packages)
    except Exception:  # each package has its own for a value that it does not like
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ["MUJOCO_GL"] = "disabled"
        try:
            _import("mujoco", *packages)
        finally:
            del os.environ["MUJOCO_GL"]
            os.environ.update(asked)


def _import(*packages: str) -> None:
    for package in packages:
        importlib.import_module(package)

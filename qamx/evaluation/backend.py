"""Drawing without a display."""

import os
import sys

from qamx.audit.probes import drawing_backend
from qamx.errors import UserError


def choose_backend(*, required: bool) -> None:
    """Has MuJoCo draw with EGL, or else OSMesa, where there is no display and nothing is set.

    It must come before MuJoCo is imported.

    **Raises:** `UserError` if neither is there and the environment is known to need one
    (`required`).
    """
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if os.environ.get("MUJOCO_GL") or display or sys.platform != "linux":
        return
    backend, said = drawing_backend()
    if backend is not None:
        os.environ["MUJOCO_GL"] = backend
    elif required:
        raise UserError(
            f"nothing draws here ({said}); install EGL (Debian: apt-get install libegl1 libgl1) or "
            "OSMesa (libosmesa6), or set MUJOCO_GL; qamx doctor shows what works"
        )

"""What MuJoCo draws with, chosen before it is imported."""

import os

from qamx._utils.processes import drawing
from qamx.errors import UserError

_TRIED: set[str] = set()
"""Values of `MUJOCO_GL` that were seen to draw in this process."""


def choose_backend(*, required: bool) -> str:
    """Has MuJoCo draw with what `MUJOCO_GL` asks for, or else with what draws here.

    It must come before MuJoCo is imported.

    **Returns:** what keeps MuJoCo from drawing, and what to do; empty if it draws.

    **Raises:** `UserError` with that if the environment is known to need it (`required`).
    """
    if os.environ.get("MUJOCO_GL") in _TRIED:
        return ""
    found = drawing()
    if found.remedy:
        trouble = f"{found.said}; {found.remedy}; qamx doctor shows what works"
        if required:
            raise UserError(trouble)
        return trouble
    if found.backend:
        os.environ["MUJOCO_GL"] = found.backend
        _TRIED.add(found.backend)
    return ""

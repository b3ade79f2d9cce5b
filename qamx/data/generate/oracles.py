"""OGBench's scripted oracles for the robot arm, one for each kind of object."""

from typing import Any

Oracles = dict[str, Any]
"""An oracle for each `privileged/target_task`."""


def plan_oracles(environment: Any, tasks: tuple[str, ...], **settings: Any) -> Oracles:
    """Oracles that follow a plan with temporally correlated noise: the behaviour `play`."""
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    kinds = {
        "cube": CubePlanOracle,
        "button": ButtonPlanOracle,
        "drawer": DrawerPlanOracle,
        "window": WindowPlanOracle,
    }
    noise = {"noise": 0.1, "noise_smoothing": 0.5}
    return {task: kinds[task](env=environment, **noise, **settings) for task in tasks}


def markov_oracles(environment: Any, tasks: tuple[str, ...], **settings: Any) -> Oracles:
    """Oracles that look at the present state alone: the behaviour `noisy`."""
    from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
    from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
    from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

    kinds = {
        "cube": CubeMarkovOracle,
        "button": ButtonMarkovOracle,
        "drawer": DrawerMarkovOracle,
        "window": WindowMarkovOracle,
    }
    return {task: kinds[task](env=environment, min_norm=0.4, **settings) for task in tasks}

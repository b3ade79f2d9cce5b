"""Makes a Minari data set: a pendulum swung up by a controller that is disturbed."""

import warnings

import gymnasium
import minari
import numpy as np

NAME = "pendulum/disturbed-v0"
EPISODES, NOISE = 200, 3.5
SWUNG_UP = -300.0
"""The return from which on an episode counts as solved in `own_data.toml`."""


# --8<-- [start:controller]
def controller(observation: np.ndarray) -> float:
    """The torque that pumps energy into the pendulum, and near the top holds it there."""
    cosine, sine, speed = observation
    if cosine > 0.85:
        return -12.0 * np.arctan2(sine, cosine) - 3.0 * speed
    energy = speed**2 / 6.0 + 5.0 * (cosine - 1.0)  # 0 where it stands still at the top
    return -energy * np.sign(speed)


# --8<-- [end:controller]


# --8<-- [start:collect]
def collect() -> list[float]:
    """Plays the controller with noise on its torque, records it, and returns the returns."""
    env = minari.DataCollector(gymnasium.make("Pendulum-v1"))
    rng, returns = np.random.default_rng(0), []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode)
        returns.append(0.0)
        truncated = False
        while not truncated:
            torque = np.clip(controller(observation) + rng.normal(0.0, NOISE), -2.0, 2.0)
            observation, reward, _, truncated, _ = env.step(np.array([torque], np.float32))
            returns[-1] += float(reward)
    env.create_dataset(NAME, description="a pendulum swung up by a disturbed controller")
    env.close()
    return returns


# --8<-- [end:collect]


def main() -> None:
    if NAME in minari.list_local_datasets():
        minari.delete_dataset(NAME)
    warnings.filterwarnings("ignore", module="minari")  # of what a published set should say
    returns = collect()
    solved = np.mean(np.array(returns) >= SWUNG_UP)
    print(f"minari:{NAME}: {EPISODES} episodes, {solved:.0%} of them swing it up")
    assert 0.0 < solved < 0.5, "the data should leave something to learn"


if __name__ == "__main__":
    main()

"""A control loop that asks the server for its actions, here with a maze of OGBench's as the robot.

python client.py [--port 7777] [--task 1] [--episodes 3]
"""

import argparse
import json
import socket
import time
from typing import Any

import numpy as np
import ogbench


class Remote:
    """The server's policy; `milliseconds` are the times that it took to answer."""

    def __init__(self, port: int):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rwb")
        self.milliseconds: list[float] = []

    def reset(self, seed: int) -> None:
        self._ask({"reset": seed})

    def act(self, observation: np.ndarray) -> dict[str, Any]:
        began = time.perf_counter()
        answer = self._ask({"observation": observation.tolist()})
        self.milliseconds.append(1e3 * (time.perf_counter() - began))
        return answer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._lines.write(json.dumps(request).encode() + b"\n")
        self._lines.flush()
        answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="play a maze with a served policy")
    parser.add_argument("--port", type=int, default=7777)
    parser.add_argument("--task", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=3)
    arguments = parser.parse_args()
    name = f"pointmaze-medium-navigate-singletask-task{arguments.task}-v0"
    env: Any = ogbench.make_env_and_datasets(name, env_only=True)
    remote = Remote(arguments.port)
    for episode in range(arguments.episodes):
        observation, _ = env.reset(seed=episode)
        remote.reset(episode)
        late = steps = 0
        done = success = False
        while not done:
            answer = remote.act(np.asarray(observation))
            observation, _, terminated, truncated, info = env.step(np.array(answer["action"]))
            done, success = terminated or truncated, bool(info["success"])
            late, steps = late + answer["late"], steps + 1
        outcome = "solved" if success else "not solved"
        print(f"episode {episode}: {outcome} in {steps} steps, {late} late")
    median, p99 = np.quantile(remote.milliseconds, (0.5, 0.99))
    print(f"an answer: median {median:.2f} ms, 99% {p99:.2f} ms")


if __name__ == "__main__":
    main()

"""Trains with a callback that looks at values and tries the policy, stops, and continues."""

import jax
import numpy as np

import qamx
from qamx.errors import ExitCode

SMALL = (
    "data.directory=data",
    "data.generate_episodes=1",
    "agent.actor_hidden=[16]",
    "agent.critic_hidden=[16]",
    "agent.flow_steps=2",
    "agent.batch_size=16",
    "schedule.kind=offline",
    "schedule.offline_steps=400",
    "schedule.online_steps=",
    "schedule.online_warmup=",
    "logging.every=100",
    "evaluation.every=200",
    "evaluation.episodes=1",
    "evaluation.workers=0",
)


# --8<-- [start:callback]
def watch(event: qamx.TrainingEvent) -> None:
    if event.kind == "evaluation":
        print(f"step {event.step}: success {event.row['success']:.0%}")
        return
    observations = np.zeros((1, 2))  # a point in a maze
    chunk = event.policy.act(observations, jax.random.key(event.step))
    print(f"step {event.step}: critic's loss {event.row['critic/loss']:.3f}, acts {chunk[0, 0]}")
    if event.step == 100:
        event.stop()


# --8<-- [end:callback]


def main() -> None:
    # --8<-- [start:run]
    experiment = qamx.load("quickstart", SMALL)
    code = qamx.run(experiment, "runs/watched", callbacks=[watch])
    assert code == ExitCode.INTERRUPTED

    code = qamx.run(experiment, "runs/watched", callbacks=[watch])  # from step 100 on
    assert code == ExitCode.DONE
    # --8<-- [end:run]


if __name__ == "__main__":
    main()

"""A policy behind a socket: a line of JSON in, an action within a bounded time out.

python server.py BUNDLE [--port 7777] [--budget-ms 10] [--steps K]

Needs JAX, NumPy and qamx.deploy. Requests, a line each:

{"reset": 3}                      begins an episode whose draws are seeded by 3
{"observation": [0.1, ...]}       answers {"action": [...], "age": 0, "late": false, "held": false}
"""

import argparse
import json
import socketserver

import numpy as np

from qamx.deploy import RealTimeExecutor, load_policy


class Session(socketserver.StreamRequestHandler):
    """A robot's connection, with an executor of its own."""

    disable_nagle_algorithm = True  # an action is sent at once
    make_executor: "staticmethod[[], RealTimeExecutor]"

    def handle(self) -> None:
        executor = self.make_executor()
        try:
            for line in self.rfile:
                self.wfile.write(json.dumps(answer(executor, line)).encode() + b"\n")
        finally:
            executor.close()


def answer(executor: RealTimeExecutor, line: bytes) -> dict[str, object]:
    """What a request is answered; a mistake in one does not end the connection."""
    try:
        request = json.loads(line)
        if "reset" in request:
            executor.reset(int(request["reset"]))
            return {}
        timed = executor.act(np.asarray(request["observation"], np.float32))
    except (ValueError, TypeError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    action = [float(entry) for entry in timed.action]
    return {"action": action, "age": timed.age, "late": timed.late, "held": timed.held}


def main() -> None:
    parser = argparse.ArgumentParser(description="serve an exported policy")
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=7777)
    parser.add_argument("--budget-ms", type=float, default=10.0)
    parser.add_argument("--steps", type=int, help="of a chunk before the next (default: half)")
    arguments = parser.parse_args()
    policy = load_policy(arguments.bundle)
    Session.make_executor = staticmethod(
        lambda: RealTimeExecutor(policy, arguments.budget_ms / 1e3, arguments.steps)
    )
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", arguments.port), Session) as server:
        print(f"listening on port {server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()

"""A Slurm of one node on this machine's loopback, from Debian's packages; needs root.

    apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge

No control groups are needed: processes are found by their parents, and no resource is enforced.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

CONF = """\
ClusterName=one
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=60
MinJobAge=3600
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """What this machine lacks for it; an empty string if nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root"


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[None]:
    """Slurm inside `with`; its programs find it by `SLURM_CONF`.

    **Raises:** `RuntimeError` if the node does not come up.
    """
    os.environ["PATH"] = _PATH
    for name in ("state", "spool"):
        (folder / name).mkdir()
    controller, node = _free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, controller=controller, node=node))
    os.environ["SLURM_CONF"] = str(conf)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    with contextlib.ExitStack() as daemons:
        files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        seed = f"--seed-file={folder / 'munge.seed'}"
        munge = ["munged", "--foreground", "--force", f"--key-file={key}", seed, *options]
        daemons.enter_context(_daemon(munge, folder))
        _wait_for(lambda: (folder / "munge.socket").exists(), "munge", folder)
        daemons.enter_context(_daemon(["slurmctld", "-D"], folder))
        daemons.enter_context(_daemon(["slurmd", "-D", "-N", "localhost"], folder))
        _wait_for(_is_up, "the node", folder)
        yield


def _is_up() -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return said.strip() in ("idle", "mixed", "allocated")


@contextlib.contextmanager
def _daemon(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(condition, what: str, folder: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            for file in sorted(folder.glob("*.out")) + sorted(folder.glob("*.log")):
                print(f"--- {file.name}", file.read_text()[-2000:], sep="\n", file=sys.stderr)
            raise RuntimeError(f"{what} did not come up")
        time.sleep(0.5)

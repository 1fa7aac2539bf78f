"""A cluster of SLURM on this machine, for as long as a command runs: munged, slurmctld and a slurmd for each node.

python tests/cluster/slurm_cluster.py [--nodes 2] [--processors 2] COMMAND ...

The command finds `srun`, `sbatch` and the rest, and a partition named `cpu`. Daemons are those of the packages
`slurm-wlm` and `munge` (Debian's slurmd can act as several nodes on one machine), run as root, write only to a
temporary folder, and end with the command.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SECONDS_TO_START = 60

CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,defer
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MailProg=/bin/true
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def daemon(*command: str | Path, **environment: str) -> Iterator[None]:
    """A daemon in a separate process, ended afterwards."""
    process = subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def slurm_cluster(nodes: int, processors: int) -> Iterator[dict[str, str]]:
    """A cluster whose nodes are all idle.

    Args:
        nodes: how many.
        processors: that each is said to have.

    Yields:
        The environment of commands that are to use it.
    """
    host = socket.gethostname()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ExitStack() as daemons:
        folder = Path(name)
        (folder / "state").mkdir()
        named = [f"node{number}" for number in range(nodes)]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={processors} State=UNKNOWN"
            for node in named
        ]
        settings = folder / "slurm.conf"
        settings.write_text(
            CONFIGURATION.format(host=host, controller=free_port(), folder=folder, nodes="\n".join(lines))
        )
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munge.pid",
                 f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]  # fmt: skip
        environment = {"SLURM_CONF": str(settings)}
        daemons.enter_context(daemon("munged", "--foreground", "--force", *munge))
        daemons.enter_context(daemon("slurmctld", "-D", "-i", **environment))
        for node in named:
            daemons.enter_context(daemon("slurmd", "-D", "-N", node, **environment))
        environment = {**os.environ, **environment}
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            said = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%T"], env=environment, capture_output=True, text=True
            )
            if said.stdout.split() == ["idle"] * nodes:
                break
            if time.monotonic() > deadline:
                logs = "".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
                raise RuntimeError(f"the cluster did not come up: {said.stdout}{said.stderr}\n{logs}")
            time.sleep(0.5)
        yield environment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--processors", type=int, default=2)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun") if shutil.which(name) is None]
    if missing:
        parser.error(f"no {', '.join(missing)} in PATH; install slurm-wlm and munge")
    with slurm_cluster(arguments.nodes, arguments.processors) as environment:
        return subprocess.run(arguments.command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())

"""A throw-away SLURM on this machine: munged, slurmctld and one slurmd per node on loopback, everything in one folder.

    python -m tests.slurm.cluster start /tmp/slurm --nodes 2     # prints what to source; about a second
    . /tmp/slurm/env.sh && sinfo
    python -m tests.slurm.cluster stop /tmp/slurm

It needs the daemons only, as Debian packages them: ``apt-get install --no-install-recommends slurm-wlm munge``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
SBIN = ("/usr/sbin", "/sbin")  # where Debian puts daemons; not on every user's PATH
PACKAGES = "apt-get install --no-install-recommends slurm-wlm munge"
BIN = Path(__file__).resolve().parent / "bin"

CONF = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired: two minutes by default.
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PriorityType=priority/basic
# The nodes may claim more processors than this machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=30
MinJobAge=3600
JobRequeue=1
OverTimeLimit=0
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=UNLIMITED DefaultTime=10 State=UP OverSubscribe=NO
"""


def missing() -> list[str]:
    """The programs a cluster needs and this machine lacks."""
    return [name for name in DAEMONS if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    """PATH with the daemons' folders, after the stand-in for ``sacct``, which asks a database that is not there."""
    return os.pathsep.join([str(BIN), os.environ.get("PATH", ""), *SBIN])


@dataclass(frozen=True)
class Cluster:
    """A cluster whose files all lie in ``folder``; its nodes claim processors and GPUs that need not exist."""

    folder: Path
    nodes: int = 1
    cpus: int = 8
    gpus: int = 2

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to it. Node names do not resolve, so several nodes need a fixed address."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        added = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": search_path()}
        return kept | added | ({"MASTER_ADDR": "127.0.0.1"} if self.nodes > 1 else {})

    def start(self) -> None:
        """Start the daemons and wait until every node is idle; ``RuntimeError`` with the logs when they are not."""
        if missing():
            raise RuntimeError(f"{', '.join(missing())} not found; {PACKAGES}")
        self._write()
        run = self.folder / "run"
        munge = ["--force", f"--key-file={self.folder}/munge/key", f"--socket={run}/munge.sock"]
        munge += [f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged.log"]
        self.command("munged", *munge, f"--seed-file={self.folder}/munge/seed", "--num-threads=2")
        self.command("slurmctld", "-i")
        for name in self.node_names():
            self.command("slurmd", "-N", name)
        self._wait_until_idle()

    def stop(self) -> None:
        """Cancel what runs, then end the daemons by the process ids they wrote."""
        with contextlib.suppress(subprocess.SubprocessError):
            jobs = self.command("squeue", "--noheader", "--format=%A").split()
            if jobs:
                self.command("scancel", "--full", *jobs)
                wait_for(lambda: not self.command("squeue", "--noheader", "--format=%A").split(), 15)
        order = [*(f"slurmd.{name}" for name in self.node_names()), "slurmctld", "munged"]
        for name in order:
            end(self.folder / "run" / f"{name}.pid")

    def command(self, *words: str, timeout: float = 60) -> str:
        """Run a command of the cluster and return what it printed."""
        program = shutil.which(words[0], path=search_path()) or words[0]
        done = subprocess.run(
            [program, *words[1:]], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
        return done.stdout

    def node_names(self) -> list[str]:
        """The single node is ``localhost``: torch and Lightning take the address to meet at from the first name."""
        return ["localhost"] if self.nodes == 1 else [f"n{i}" for i in range(1, self.nodes + 1)]

    def _write(self) -> None:
        for name in ("munge", "state", "spool", "log", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (self.folder / name).chmod(0o700)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        (self.folder / "plugstack.conf").touch()
        self._pretend_gpus()
        ports = free_ports(self.nodes + 1)
        rows = [
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} RealMemory=64000"
            f" Gres=gpu:{self.gpus}"
            for name, port in zip(self.node_names(), ports[1:], strict=True)
        ]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        conf = CONF.format(port=ports[0], user=user, folder=self.folder, nodes="\n".join(rows))
        (self.folder / "slurm.conf").write_text(conf)
        changed = {key: value for key, value in self.environment.items() if os.environ.get(key) != value}
        (self.folder / "env.sh").write_text("".join(f"export {key}='{value}'\n" for key, value in changed.items()))

    def _pretend_gpus(self) -> None:
        """Plain files in place of /dev/nvidia0 and so on: scripts that ask for GPUs run as they are."""
        files = [self.folder / "dev" / f"gpu{number}" for number in range(self.gpus)]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.touch()
        rows = [f"NodeName={name} Name=gpu File={file}\n" for name in self.node_names() for file in files]
        (self.folder / "gres.conf").write_text("".join(rows))

    def _wait_until_idle(self) -> None:
        def idle() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.command("sinfo", "-h", "-N", "-o", "%T").split().count("idle") == self.nodes
            return False

        if not wait_for(idle, 20):
            logs = [path.read_text()[-2000:] for path in sorted((self.folder / "log").iterdir())]
            raise RuntimeError("the nodes did not come up\n" + "\n".join(logs))


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(condition, timeout: float, every: float = 0.1) -> bool:
    """Whether the condition came true in time."""
    end_at = time.monotonic() + timeout
    while time.monotonic() < end_at:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())


def end(pid_file: Path) -> None:
    """End the process whose id the file holds, gently first."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_for(lambda: not alive(pid), 10):
            break
    pid_file.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="start or stop a SLURM of this machine alone")
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=8)
    parser.add_argument("--gpus", type=int, default=2, help="pretend GPUs of each node")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.action == "start":
        try:
            Cluster(folder, given.nodes, given.cpus, given.gpus).start()
        except RuntimeError as error:
            sys.exit(f"error: {error}")
        print(f". {folder}/env.sh")
    else:
        names = [path.name for path in (folder / "run").glob("slurmd.n*.pid")]
        Cluster(folder, len(names) or 1).stop()


if __name__ == "__main__":
    main()

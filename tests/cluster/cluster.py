"""A SLURM cluster of two nodes on this machine alone: munge, slurmctld and two slurmd of Debian's package `slurm-wlm`.

Everything lies in one folder that is removed afterwards, but for links in /etc/slurm: what a job starts inside itself looks
there. The nodes claim more cores than there are, and GPUs that are /dev/null. A job that needs more memory than it asked for
is killed, as with cgroups.

By hand: ``python tests/cluster/cluster.py snakemake --profile slurm ...`` runs a command beside such a cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SYSTEM = Path("/etc/slurm")
PREFIX = "orbitrace-slurm-"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo")
NODES = ("node1", "node2")
CORES, MEMORY = 8, 12000  # of each node, whatever there is; MB

CONFIGURATION = """
ClusterName=orbitrace
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,batch_sched_delay=1,sched_interval=2,preempt_send_user_signal
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MinJobAge=3600
KillWait=5
InactiveLimit=0
JobRequeue=1
MaxArraySize=1001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
SlurmdParameters=config_overrides
{nodes}
PartitionName=cpu Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=gpu Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} RealMemory={memory} Gres=gpu:2"


class Job(NamedTuple):
    """One job as `squeue` shows it: its number (with `_n` in an array), state, partition, GPUs, nodes, cores and rule."""

    id: str
    state: str
    partition: str
    gres: str
    nodes: str
    cores: str
    memory: str
    rule: str


def missing() -> str:
    """Why no cluster can be started on this machine; empty if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} not installed: on Debian, apt install slurm-wlm munge (or make test-slurm)"
    if os.geteuid() != 0:
        return "slurmd must be started by root"
    own = SYSTEM / "slurm.conf"
    if own.exists() and PREFIX not in str(own.resolve()):
        return f"this machine belongs to a cluster: {own}"
    return ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when something is so; an error that names it if it is not so in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.2)


@dataclass
class Cluster:
    """A cluster in a folder of its own; use it as a context."""

    folder: Path

    def __enter__(self) -> Cluster:
        try:
            self._write()
            self._start_munge()
            self.start_controller()
            for name in NODES:
                self._run("slurmd", "-N", name)
            wait_for(
                "the nodes", lambda: self.ask("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T").split() == ["idle"] * len(NODES)
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if (self.folder / "slurmctld.pid").exists():
            subprocess.run(["scancel", "--user=root"], env=self.environment, check=False, capture_output=True, timeout=20)
        for name in (*NODES, "slurmctld", "munged"):
            self._kill(name, signal.SIGTERM if name != "slurmctld" else signal.SIGKILL)
        for file in SYSTEM.glob("*.conf"):
            if file.is_symlink() and str(self.folder) in str(file.readlink()):
                file.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands that talk to the cluster, and of its daemons."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SNAKEMAKE_PROFILE"))}
        return {**kept, "PATH": _path()}

    def ask(self, *command: str) -> str:
        """What a command of SLURM says; nothing if it fails."""
        done = subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self) -> list[Job]:
        """All jobs there were, oldest first."""
        shown = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "--array", "-o", "%i|%T|%P|%b|%D|%C|%m|%k")
        return [Job(*line.split("|")[:8]) for line in shown.splitlines()]

    def kill_controller(self) -> None:
        """As when its machine loses power."""
        self._kill("slurmctld", signal.SIGKILL)

    def start_controller(self) -> None:
        """Start it with the state it has saved, if any."""
        self._run("slurmctld")
        wait_for("slurmctld", lambda: bool(self.ask("sinfo", "-h")))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _kill(self, name: str, how: signal.Signals) -> None:
        file = self.folder / f"{name}.pid"
        try:
            number = int(file.read_text())
        except (OSError, ValueError):
            return
        try:
            os.kill(number, how)
            wait_for(f"the end of {name}", lambda: not _alive(number), 20)
        except ProcessLookupError:
            pass
        except TimeoutError:
            os.kill(number, signal.SIGKILL)
        file.unlink(missing_ok=True)

    def _write(self) -> None:
        for name in ("state", "munge", "dev", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "dev/gpu0").symlink_to("/dev/null")
        (self.folder / "dev/gpu1").symlink_to("/dev/zero")
        host = socket.gethostname().split(".")[0]
        nodes = [NODE.format(name=name, host=host, port=_free_port(), cores=CORES, memory=MEMORY) for name in NODES]
        text = CONFIGURATION.format(host=host, folder=self.folder, port=_free_port(), nodes="\n".join(nodes))
        gpus = "".join(f"NodeName={name} Name=gpu File={self.folder}/dev/gpu[0-1]\n" for name in NODES)
        SYSTEM.mkdir(exist_ok=True)
        for name, content in (("slurm", text), ("gres", gpus), ("cgroup", "CgroupPlugin=cgroup/v1\n")):
            (self.folder / f"{name}.conf").write_text(content)
            link = SYSTEM / f"{name}.conf"
            link.unlink(missing_ok=True)
            link.symlink_to(self.folder / f"{name}.conf")

    def _start_munge(self) -> None:
        place = self.folder / "munge"
        key = place / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": key, "socket": place / "munge.sock", "log-file": place / "log", "seed-file": place / "seed"}
        options = [f"--{name}={file}" for name, file in files.items()]
        self._run("munged", *options, f"--pid-file={self.folder}/munged.pid", "--num-threads=2")


def _alive(number: int) -> bool:
    """Whether a process runs; one that nobody waited for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def new() -> Cluster:
    """A cluster in a new folder; only root may write there, as munge wants."""
    return Cluster(Path(tempfile.mkdtemp(prefix=PREFIX)))


if __name__ == "__main__":
    reason = missing()
    if reason:
        sys.exit(reason)
    with new() as cluster:
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"], env=cluster.environment, check=False).returncode)

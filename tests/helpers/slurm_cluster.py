"""A real Slurm on this machine: one controller, and nodes that are processes, with GPUs that are files.

Everything lies in one folder with a short name (sockets have paths of at most 108 characters) and ends with `stop`.
"""

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODES, CPUS, GPUS = 2, 4, 4

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/sock,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout=6
ReturnToService=2
KillWait=10
MinJobAge=3600
FirstJobId={job}
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobs
MailProg=/bin/true
GresTypes=gpu
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=8000 \
Gres=gpu:{gpus} Feature=cpu,gpu
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs of Slurm and MUNGE that are not on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class Cluster:
    """Started by its constructor."""

    def __init__(self, root: Path) -> None:
        self.root, self.env = root, {"PATH": PATH, "SLURM_CONF": str(root / "slurm.conf")}
        for name in ("state", "log", "munge", "gpu", *(f"spool/n{i + 1}" for i in range(NODES))):
            (root / name).mkdir(parents=True)
        (root / "munge").chmod(0o700)
        key = root / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for number in range(GPUS):
            (root / "gpu" / str(number)).touch()
        (root / "gres.conf").write_text(f"Name=gpu File={root}/gpu/[0-{GPUS - 1}]\n")
        port = _free_ports(NODES + 1)
        # MPICH names its shared memory after the job: one that a killed job of another cluster left would be taken up.
        job = random.randrange(1000, 60_000_000)
        fields = {
            "job": job,
            "port": port,
            "first": port + 1,
            "last": port + NODES,
            "nodes": NODES,
            "cpus": CPUS,
            "gpus": GPUS,
        }
        host, user = socket.gethostname().split(".")[0], getpass.getuser()
        (root / "slurm.conf").write_text(CONF.format(root=root, host=host, user=user, **fields))
        munge = [f"--{name}={root}/munge/{file}" for name, file in _MUNGE_FILES.items()]
        self.run("munged", "--force", "--num-threads=2", *munge)
        self.run("slurmctld")
        for number in range(NODES):
            self.start_node(f"n{number + 1}")
        self.wait_for(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D") == str(NODES), "idle nodes", 30)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """One of Slurm's programs, or any other, with this cluster as its Slurm."""
        whole = {**os.environ, **self.env, **env}
        done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def ask(self, *command: str) -> str:
        """What it prints; empty where it fails, as in the first moments of a cluster."""
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120)
        return done.stdout.strip()

    def start_node(self, name: str) -> None:
        """Its slurmd."""
        self.run("slurmd", "-N", name)

    def kill_node(self, name: str) -> None:
        """As if its power were cut: its slurmd, the steps on it and all that they started."""
        log = str(self.root / "log" / f"slurmd-{name}")
        for process in Path("/proc").glob("[0-9]*"):
            env = _environment(process)
            on_it = env.get("SLURMD_NODENAME") == name and env.get("SLURM_CONF") == self.env["SLURM_CONF"]
            if on_it or log in _open_files(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED ..."""
        found = self.ask("scontrol", "show", "job", job)
        return found.split("JobState=")[1].split()[0] if "JobState=" in found else "UNKNOWN"

    def field(self, job: str, name: str) -> str:
        """A field of `scontrol show job`, such as ExitCode or Restarts."""
        return self.ask("scontrol", "show", "job", job).split(f"{name}=")[1].split()[0]

    def wait(self, job: str, seconds: float = 300) -> str:
        """The state in which the job ended."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        self.wait_for(lambda: self.state(job) in ended, f"the end of job {job}", seconds)
        return self.state(job)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Asks five times a second."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not in {seconds:g} s; {self.ask('squeue')}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Jobs, then daemons; nothing of the cluster is left."""
        self.ask("scancel", "--user", getpass.getuser())
        deadline = time.monotonic() + 30
        while self.ask("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid_file in [self.root / "slurmctld.pid", *self.root.glob("slurmd-*.pid"), self.root / "munge" / "pid"]:
            if pid_file.exists():
                _end(int(pid_file.read_text()))


_MUNGE_FILES = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on; each worker of pytest-xdist looks elsewhere."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(26_800 + 500 * (worker % 10), 32_000, 20):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports for Slurm")


def _environment(process: Path) -> dict[str, str]:
    try:
        entries = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _open_files(process: Path) -> set[str]:
    try:
        return {os.readlink(link) for link in (process / "fd").iterdir()}
    except OSError:
        return set()


def _end(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
            for _ in range(50):
                os.kill(pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return

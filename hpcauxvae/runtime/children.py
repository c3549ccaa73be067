"""Child processes: started with a log, asked to end and then killed, found again by a mark, and why they failed.

Process groups are not enough: torchrun and mpirun give their workers sessions of their own, and these outlive a
launcher that is killed. So each child and all that it starts carry a mark in their environment. The minder is a small
process that outlives the parent: when the parent is gone, however it went, the minder ends what still carries the
parent's mark. Marks are read from /proc, on Linux only; elsewhere process groups must do.

The minder's program is this file, which therefore imports the standard library alone when it is loaded.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MARK = "HPCAUXVAE_CHILD"
"""The environment variable with the mark of a child."""
GRACE_SECONDS = 60.0
"""From asking a child to end, at its next step, to killing it."""
MINDER_SECONDS = 5.0
"""The same where the parent is gone and a minder asks."""
SHOWN = "$ "
"""Comes before a command in a log."""

_EXEC_TRIES = 20

_TELLS_OF_AN_ERROR = re.compile(r"error:|Error\b|Diverged|OutOfMemory|[Kk]illed|signal")
_OF_TORCHRUN = re.compile(r"\[[EW]|torch\.distributed\.elastic|[EWI]\d{4} ")  # the last: month and day
_FRAME = " │╭╮╰╯─"  # around the messages of the command-line parser


def new_mark() -> str:
    """A mark for the children of this process; each child adds a name of its own."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}/"


def environment(mark: str, *, launched: bool = False) -> dict[str, str]:
    """The environment of a child with this mark, without what the parent's own launcher left in it.

    A child would take the parent's rank for its own. launched: the child is started by srun or mpirun, which read these
    variables and set them anew; they do not set the address where the parent's ranks meet, so that address goes too.
    """
    from hpcauxvae.runtime.launchers import is_of_a_launcher, is_of_a_meeting  # a minder has no package

    def is_kept(name: str) -> bool:
        return not is_of_a_meeting(name) and (launched or not is_of_a_launcher(name))

    return {name: value for name, value in os.environ.items() if is_kept(name)} | {MARK: mark}


class Child:
    """A process in a session of its own, whose output is added to a log."""

    def __init__(
        self, command: list[str], log: Path, env: Mapping[str, str], *, shown: str = "", given: str = "", keep: int = -1
    ) -> None:
        """Starts it; raises OSError where there is no such program, or the log cannot be written.

        env: of `environment`; shown: the command as the log shows it; given: the child's standard input; keep: a
        descriptor that it holds open.
        """
        self.log, self.mark = log, env[MARK]
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            self._first_byte = output.tell()
            if shown:
                output.write(f"{SHOWN}{shown}\n".encode())
                output.flush()
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                pass_fds=[keep] if keep >= 0 else [], start_new_session=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin:
            self.process.stdin.write(given.encode())

    @property
    def code(self) -> int | None:
        """Its exit code, minus the signal's number after a signal; None while it runs."""
        return self.process.poll()

    def ask(self) -> None:
        """Asks it to end."""
        if self.code is None:
            os.killpg(self.process.pid, signal.SIGTERM)

    def end(self, grace: float = 0.0) -> int:
        """Waits so many seconds for it, then kills what is left, its launcher's orphans included; its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        if self.code is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        kill_marked(self.mark)
        return code

    def said(self) -> list[str]:
        """The lines that this child has added to its log."""
        return self.log.read_bytes()[self._first_byte :].decode(errors="replace").splitlines()

    def shown(self) -> str:
        """The last command that its log shows; empty if none."""
        return next((line.removeprefix(SHOWN) for line in reversed(self.said()) if line.startswith(SHOWN)), "")

    def why(self) -> str:
        """The reason of a failure in a line: the signal, or the exit code and the last line that tells of an error.

        Only what followed the last command that the log shows counts.
        """
        code = self.code or 0
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return f"killed by {known.get(-code, f'signal {-code}')}"
        lines = list[str]()
        for line in self.said():
            lines = [] if line.startswith(SHOWN) else [*lines, line.strip(_FRAME)]
        telling = [line for line in lines if _TELLS_OF_AN_ERROR.search(line)]
        root = [line for line in telling if not _OF_TORCHRUN.match(line)]
        last = (root or telling or list(filter(None, lines)) or ["nothing was printed"])[-1]
        return f"exit code {code}: {last[:300]}"


def end_all(children: Sequence[Child], grace: float = GRACE_SECONDS) -> None:
    """Asks all of them to end, and kills those that have not ended within so many seconds."""
    until = time.monotonic() + grace
    for child in children:
        child.ask()
    for child in children:
        child.end(max(0.0, until - time.monotonic()))


def marked(mark: str) -> Iterator[int]:
    """Processes whose mark begins with this text; those that ended and wait for their parents do not count."""
    wanted = f"\0{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and wanted in b"\0" + _environ(entry):
                yield int(entry.name)


def _environ(process: Path) -> bytes:
    """Of a folder of /proc; raises OSError where the process has ended. In the middle of an exec it is empty."""
    for _ in range(_EXEC_TRIES):
        if found := (process / "environ").read_bytes():
            return found
        (process / "exe").readlink()  # a thread of the kernel has none, and no environment
        time.sleep(0.005)
    return b""


def signal_marked(mark: str, number: signal.Signals) -> int:
    """Signals them all; returns how many there were."""
    count = 0
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def kill_marked(mark: str) -> None:
    """Kills them until there are none: a child may start another meanwhile."""
    while signal_marked(mark, signal.SIGKILL):
        time.sleep(0.05)


class Minder:
    """Watches over the children of this process from outside; `with Minder(mark):`."""

    def __init__(self, mark: str, grace: float = MINDER_SECONDS) -> None:
        """grace: seconds from asking the children to end to killing them, once this process is gone."""
        command = [sys.executable, "-I", "-S", __file__, mark, str(grace)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> "Minder":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def mind(mark: str, grace: float) -> None:
    """The minder: waits for the end of its standard input, which only the end of the parent brings about."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    signal_marked(mark, signal.SIGTERM)
    end = time.monotonic() + grace
    while any(marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    kill_marked(mark)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(processes: int) -> int:
    """Threads of each of so many processes that share the cores."""
    return max(1, cores() // processes)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as the environment names them."""
    from hpcauxvae.runtime.launchers import VISIBLE_DEVICES  # a minder has no package

    for variable in VISIBLE_DEVICES:
        if variable in os.environ:
            return [name for name in os.environ[variable].split(",") if name]
    import torch  # a second

    return [str(number) for number in range(torch.accelerator.device_count())]


def only_gpus(names: Sequence[str]) -> dict[str, str]:
    """Environment of a child that is to see these GPUs alone, of those that `visible_gpus` names.

    Names are given in the variables where they mean what they mean here: with numbers of AMD's driver in HIP's variable
    as well, a child would see number 2 of the one device left to it.
    """
    from hpcauxvae.runtime.launchers import VISIBLE_DEVICES

    *above, drivers = VISIBLE_DEVICES
    of_driver = drivers in os.environ and not any(variable in os.environ for variable in above)
    return dict.fromkeys([drivers] if of_driver else above, ",".join(names))


if __name__ == "__main__":
    mind(sys.argv[1], float(sys.argv[2]))

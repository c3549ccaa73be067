#!/usr/bin/env python3
"""What OpenPBS 23.06 answers with job history off, its default: a stand-in for qsub, qstat, qalter and qdel.

This file is linked under their names. Jobs are files beside the links; `Pbs` makes them and runs the jobs.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KNOWN = {"walltime", "select", "place", "ncpus", "mem"}
"""Resources of a server that nobody has added any to."""
UNKNOWN_JOB, UNKNOWN_RESOURCE, NO_VARIABLE = 153, 187, 1
"""Exit codes."""


class Server:
    """The jobs; each is a dictionary of what was asked for, its variables and its state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True, exist_ok=True)

    def file(self, job: str) -> Path:
        return self.folder / "jobs" / job

    def read(self, job: str) -> dict[str, Any] | None:
        return json.loads(self.file(job).read_text()) if self.file(job).exists() else None

    def write(self, job: str, record: dict[str, Any]) -> None:
        self.file(job).write_text(json.dumps(record))

    def delete(self, job: str) -> None:
        self.file(job).unlink(missing_ok=True)

    def depends(self, job: str, record: dict[str, Any], depend: str) -> None:
        """Notes it at the job and at those it waits for; where one of these is gone, the job is deleted."""
        waits = [(kind, job) for kind, *jobs in (part.split(":") for part in depend.split(",")) for job in jobs]
        waits = [(kind, other.partition("@")[0]) for kind, other in waits]
        if any(self.read(other) is None for _, other in waits):
            return self.delete(job)
        self.write(job, record | {"waits": waits, "state": "H"})
        for kind, other in waits:
            parent = self.read(other) or {}
            parent["waited"] = [*parent["waited"], (kind.replace("after", "before"), job)]
            self.write(other, parent)

    def end(self, job: str, status: int) -> None:
        """Those that wait go on or are deleted, also if they were made to wait for another job since."""
        record = self.read(job) or {"waited": []}
        self.delete(job)
        for kind, other in record["waited"]:
            if (waiting := self.read(other)) is None:
                continue
            if (kind == "beforeok" and status != 0) or (kind == "beforenotok" and status == 0):
                self.delete(other)
                continue
            waits = [wait for wait in waiting["waits"] if wait[1] != job]
            self.write(other, waiting | {"waits": waits, "state": "H" if waits else "Q"})

    def qsub(self, words: list[str]) -> int:
        *options, script = words
        directives = re.findall(r"^#PBS (-\w)(?: (.*))?$", Path(script).read_text(), re.MULTILINE)
        given: list[tuple[str, str]] = [(name, value) for name, value in directives]
        while options:
            name = options.pop(0)
            given.append((name, "" if name in ("-h", "-V", "-z") else options.pop(0)))
        variables = {name: value for name, value in os.environ.items() if name.startswith("PBS_O_")}
        resources: dict[str, str] = {}
        last = [names for option, names in given if option == "-v"][-1:]
        for name, equals, value in [word.partition("=") for names in last for word in names.split(",")]:
            if not equals and name not in os.environ:
                return fail("qsub: cannot send environment with the job", NO_VARIABLE)
            variables[name] = value if equals else os.environ[name]
        for resource, _, value in [word.partition("=") for option, word in given if option == "-l"]:
            if resource not in KNOWN:
                return fail(f"qsub: Unknown resource Resource_List.{resource}", UNKNOWN_RESOURCE)
            resources[resource] = value
        number = len(list(self.folder.glob("number-*")))
        (self.folder / f"number-{number}").touch()
        job, state = f"{number}.server", "H" if ("-h", "") in given else "Q"
        record = {"script": str(Path(script).absolute()), "options": given, "resources": resources, "waited": [],
                  "variables": variables, "cwd": str(Path.cwd()), "state": state, "waits": [], "runs": 0}  # fmt: skip
        self.write(job, record)
        for depend in [value for option, value in given if option == "-W" and value.startswith("depend=")]:
            self.depends(job, record, depend.removeprefix("depend="))
        print(job)
        return 0

    def qstat(self, words: list[str]) -> int:
        job = words[-1]
        if (record := self.read(job)) is None:
            return fail(f"qstat: Unknown Job Id {job}", UNKNOWN_JOB)
        print(f"Job Id: {job}")
        depends = [f"{kind}:{other}@server" for kind, other in [*record["waits"], *record["waited"]]]
        lines = {"job_state": record["state"], **{f"Resource_List.{k}": v for k, v in record["resources"].items()}}
        lines |= {"depend": ",".join(depends)} if depends else {}
        if record["runs"]:
            lines |= {"stime": time.ctime(record["start"]), "run_count": record["runs"]}
        for name, value in lines.items() if "-f" in words else ():
            print(re.sub(r"(.{70}[^,]*,)(?=.)", "\\1\n\t", f"    {name} = {value}"))
        return 0

    def qalter(self, words: list[str]) -> int:
        option, depend, job = words
        assert option == "-W" and depend.startswith("depend="), words
        if (record := self.read(job)) is None:
            return fail(f"qalter: Unknown Job Id {job}", UNKNOWN_JOB)
        self.depends(job, record, depend.removeprefix("depend="))
        return 0

    def qdel(self, words: list[str]) -> int:
        record = self.read(words[0])
        if record is None:
            return fail(f"qdel: Unknown Job Id {words[0]}", UNKNOWN_JOB)
        self.delete(words[0])
        if "pid" in record:
            os.killpg(record["pid"], signal.SIGTERM)
        return 0


def fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


class Pbs(Server):
    """The server as a test has it: `tools` belongs first on the PATH, jobs run when `start` is called."""

    def __init__(self, tools: Path) -> None:
        super().__init__(tools)
        self.tools = tools
        program = tools / "openpbs"
        program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
        program.chmod(0o755)
        for name in ("qsub", "qstat", "qalter", "qdel"):
            (tools / name).symlink_to(program)

    @property
    def queued(self) -> list[str]:
        """The jobs that are there, by number."""
        return sorted((path.name for path in (self.folder / "jobs").iterdir()), key=lambda job: int(job.split(".")[0]))

    def start(self, job: str, env: dict[str, str], gone: float = 0) -> subprocess.Popen[str]:
        """The job's script, as if it had begun so many seconds ago, in a session of its own."""
        record = self.read(job)
        assert record is not None and record["state"] == "Q", f"{job}: {record}"
        record |= {"state": "R", "runs": record["runs"] + 1, "start": time.time() - gone}
        self.write(job, record)
        own = {"PBS_JOBID": job, "PBS_O_WORKDIR": record["cwd"], "PBS_NODEFILE": f"{self.folder}/nodes"}
        Path(own["PBS_NODEFILE"]).write_text("node1\n")
        process = subprocess.Popen(
            ["bash", record["script"]], env=env | record["variables"] | own, cwd="/", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.write(job, record | {"pid": process.pid})
        return process

    def run(self, job: str, env: dict[str, str], gone: float = 0) -> tuple[int, str]:
        """Exit status and output of a job that runs to its end."""
        process = self.start(job, env, gone)
        said, _ = process.communicate(timeout=60)
        self.end(job, process.returncode)
        return process.returncode, said


if __name__ == "__main__":
    server = Server(Path(sys.argv[0]).parent)
    sys.exit(getattr(server, Path(sys.argv[0]).name)(sys.argv[1:]))

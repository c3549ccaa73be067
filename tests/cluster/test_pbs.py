"""Chains of PBS jobs, each script as it is: successors, deletions, dependents. Stand-ins are PBS and the work.

helpers/openpbs.py has what the real OpenPBS answers.
"""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.openpbs import Pbs
from helpers.places import ROOT
from hpcauxvae.cluster.submit import declared, describe, parse, prepare
from hpcauxvae.types import InputError

JOBS = ROOT / "jobs"
SCRIPTS = ("simulate.pbs", "train_polaris.pbs", "search.pbs")
NEEDED = {"DATA": "g.h5", "AUX": "g1", "OUT": "runs/x"}
# The work: passes the preflight, then ends with the status WORK_ENDS, or hangs until it is asked to stop.
MPIEXEC = """#!/bin/bash
case "$*" in *preflight*) exit 0 ;; esac
trap 'exit 75' USR1 TERM
env >"$SEEN"
for ((i = 0; i < WORK_HANGS; i++)); do /bin/sleep 0.1; done
exit "$WORK_ENDS"
"""


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pbs:
    """An empty queue, and a folder to submit from."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("mpiexec", MPIEXEC), ("python", "#!/bin/bash\n"), ("sleep", "#!/bin/bash\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in (*NEEDED, "SITE", "PREDECESSOR", "RESUBMIT", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return Pbs(tools)


def env(pbs: Pbs, ends: int = 75, hangs: int = 0, **variables: str) -> dict[str, str]:
    """Of a job: what PBS gives all, and what the work does."""
    own = {"WORK_ENDS": str(ends), "WORK_HANGS": str(hangs), "SEEN": f"{pbs.folder}/seen", "VENV": "/no"}
    return {"PATH": f"{pbs.tools}:/usr/bin:/bin"} | own | variables


def submit(pbs: Pbs, script: str, *options: str, **settings: str) -> str:
    """The number of the job: the command that `submit --dry-run` shows, pasted into a shell."""
    given = [f"{name}={value}" for name, value in (NEEDED | settings).items() if name != "AUX" or "sim" not in script]
    given = [word for word in given if not ("sim" in script and word.startswith("DATA="))]
    shown = describe(prepare(parse([str(JOBS / script), *given, "--", *options])))
    command = shown.rpartition("\ncommand   ")[2]
    done = subprocess.run(["bash", "-c", command], env=env(pbs), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout.strip()


def seen(pbs: Pbs) -> dict[str, str]:
    """What the ranks found in the environment."""
    return dict(line.split("=", 1) for line in (pbs.folder / "seen").read_text().splitlines() if "=" in line)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_setting_reaches_the_successor_of_a_successor(pbs: Pbs, script: str) -> None:
    """On a server that knows no site's resources; also a value of several words."""
    own = declared(JOBS / script) | declared(JOBS / "lib.sh")
    settings = {name: f"a {name}" for name in own if name not in {*NEEDED, "SITE", "PREDECESSOR", "RESUBMIT"}}
    settings |= {"PER_NODE": "2", "REVERSE_GPUS": "4", "MAX_STUCK": "9", "STAGE": "", "CORES_PER_NODE": "8"}
    settings |= {"VENV": "/no", "LOGS": "logs/x", "NCCL_SITE": "off"}
    settings |= {"TRAIN_OPTIONS": "--epochs 3 --bf16"} if "TRAIN_OPTIONS" in own else {}
    job = submit(pbs, script, **settings)
    for _ in range(2):
        status, said = pbs.run(job, env(pbs))
        (successor,) = pbs.queued
        assert status == 75 and said.splitlines()[-1].endswith(f"submitted again as {successor}"), said
        assert ("REVERSE_GPUS" in seen(pbs)) and bool(seen(pbs)["REVERSE_GPUS"]) == ("search" not in script)
        record = pbs.read(successor)
        assert record is not None and record["variables"]["PREDECESSOR"] == job
        differ = {name for name, value in settings.items() if record["variables"].get(name) != value}
        assert differ <= {"RANKS", "MASTER_ADDR"}, "which PBS itself knows"
        job = successor
    assert pbs.run(job, env(pbs, ends=0))[0] == 0 and pbs.queued == []


def test_a_successor_waits_for_nothing_and_is_not_held(pbs: Pbs) -> None:
    first = submit(pbs, "simulate.pbs")
    job = submit(pbs, "train_polaris.pbs", "-W", f"depend=afterok:{first},umask=22", "-a", "2359", "-l", "ncpus=2")
    assert pbs.run(first, env(pbs, ends=0))[0] == 0
    status, said = pbs.run(job, env(pbs))
    (successor,) = pbs.queued
    record = pbs.read(successor)
    assert record is not None and record["state"] == "Q" and status == 75, said
    assert ["-W", "umask=22"] in record["options"] and record["resources"]["ncpus"] == "2"
    held = prepare(parse([str(JOBS / "simulate.pbs"), "OUT=g.h5", "--", "-h", "-Wblock=true"])).settings["RESUBMIT"]
    assert held == f"qsub -v OUT,JOBS,RESUBMIT,PREDECESSOR {JOBS}/simulate.pbs"


@pytest.mark.parametrize("again", ["qsub -W depend=afterok:99.server $SCRIPT", "qsub -l filesystems=home $SCRIPT"])
def test_a_successor_that_is_not_there_is_said(pbs: Pbs, again: str) -> None:
    """Whether PBS drops it at once or refuses it."""
    job = submit(pbs, "train_polaris.pbs")
    record = pbs.read(job)
    assert record is not None
    record["variables"]["RESUBMIT"] = again.replace("$SCRIPT", record["script"])
    pbs.write(job, record)
    status, said = pbs.run(job, env(pbs))
    assert (status, pbs.queued) == (1, [])
    assert "ERROR: the successor " in said and said.rstrip().endswith("submit again: it goes on from here")


def asked_to_stop(pbs: Pbs, job: str, gone: float, by_qdel: bool) -> tuple[int, str]:
    """A job that hangs, `gone` seconds after its start."""
    process = pbs.start(job, env(pbs, hangs=300), gone)
    while not (pbs.folder / "seen").exists():
        assert process.poll() is None
        time.sleep(0.02)
    if by_qdel:
        pbs.qdel([job])
    else:
        process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize(
    ("gone", "by_qdel", "again"),
    [(100, True, False), (3560, True, False), (3560, False, False), (3603, False, True)],
    ids=["qdel", "qdel in the last minute", "qrerun in the last minute", "the walltime"],
)
def test_a_person_ends_a_job_and_the_walltime_does_not(pbs: Pbs, gone: float, by_qdel: bool, again: bool) -> None:
    job = submit(pbs, "train_polaris.pbs")
    status, said = asked_to_stop(pbs, job, gone, by_qdel)
    assert status == 75 and ("submitted again as 1.server" in said) == again, said
    assert [name for name in pbs.queued if name != job] == ["1.server"] * again
    assert ("stopped before its time, by qdel, qrerun or a signal: not submitted again" in said) != again


@pytest.mark.parametrize(("gone", "again"), [(0, False), (3603, True)], ids=["qdel", "the walltime"])
def test_asked_to_stop_while_a_successor_is_submitted(pbs: Pbs, gone: float, again: bool) -> None:
    """PBS sends TERM to every process of the job: `sleep` stands for that moment."""
    (pbs.tools / "sleep").write_text("#!/bin/bash\nkill -TERM 0\n")
    job = submit(pbs, "train_polaris.pbs")
    waiting = submit(pbs, "simulate.pbs", "-W", f"depend=afterok:{job}")
    status, said = pbs.run(job, env(pbs), gone)
    assert "submitted again as 2.server" in said and "ERROR" not in said
    assert ("stopped meanwhile, by qdel, qrerun or a signal: deleted 2.server again" in said) != again
    assert (status, pbs.queued) == ((0, [waiting, "2.server"]) if again else (75, []))


def test_a_simulation_ends_before_its_walltime(pbs: Pbs) -> None:
    """What waits for it could not be handed on after that."""
    job = submit(pbs, "simulate.pbs")
    waiting = submit(pbs, "simulate.pbs", "-W", f"depend=afterok:{job}")
    status, said = pbs.run(job, env(pbs, hangs=300), gone=3597)
    assert status == 0 and "end: status 124" in said and "stopped on request at " in said
    assert "submitted again as 2.server" in said and pbs.queued == [waiting, "2.server"]


def test_starts_that_pbs_itself_repeats_are_counted(pbs: Pbs) -> None:
    """As by qrerun, or in a queue whose jobs are preempted."""
    job = submit(pbs, "train_polaris.pbs", MAX_STUCK="2")
    for restart, again in ((0, True), (1, False)):
        process = pbs.start(job, env(pbs, RESUBMIT="echo"))
        said, _ = process.communicate(timeout=60)
        assert f"restart {restart}: 4 ranks" in said
        assert ("2 starts ended at the start: not requeued" in said) != again
        pbs.write(job, (pbs.read(job) or {}) | {"state": "Q"})


def test_whoever_waits_for_a_job_waits_for_its_successor(pbs: Pbs) -> None:
    """Through two links; 10.server is not 0.server."""
    job = submit(pbs, "train_polaris.pbs")
    for number in range(1, 10):
        (pbs.folder / f"number-{number}").touch()
    other = submit(pbs, "simulate.pbs")
    ok = submit(pbs, "simulate.pbs", "-W", f"depend=afterok:{job}:{other}")
    any_end = submit(pbs, "simulate.pbs", "-W", f"depend=afterany:{job}")
    for _ in range(2):
        status, said = pbs.run(job, env(pbs))
        job = pbs.queued[-1]
        assert status == 0 and f"{ok} waits for {job} now" in said and f"{any_end} waits for {job} now" in said
        assert "status 0: at any other PBS would delete what waits for success" in said
        assert pbs.read(ok) and (pbs.read(ok) or {})["state"] == "H"
    assert pbs.run(job, env(pbs, ends=0))[0] == 0
    assert [(pbs.read(name) or {})["state"] for name in (ok, any_end)] == ["H", "Q"]
    assert pbs.run(other, env(pbs, ends=0))[0] == 0
    assert (pbs.read(ok) or {})["state"] == "Q"


def test_what_waits_for_a_failure_waits_on(pbs: Pbs) -> None:
    """PBS would start it now, and delete it if this link ended with status 0."""
    job = submit(pbs, "train_polaris.pbs")
    waiting = submit(pbs, "simulate.pbs", "-W", f"depend=afternotok:{job}")
    status, said = pbs.run(job, env(pbs))
    assert status == 75 and f"{waiting} waits for 2.server now" in said
    assert (pbs.read(waiting) or {})["state"] == "H"
    assert pbs.run("2.server", env(pbs, ends=2))[0] == 2
    assert (pbs.read(waiting) or {})["state"] == "Q"


def test_a_dependent_that_cannot_be_handed_on_is_named(pbs: Pbs) -> None:
    job = submit(pbs, "train_polaris.pbs")
    waiting = submit(pbs, "simulate.pbs", "-W", f"depend=afterok:{job}")
    (pbs.tools / "qalter").unlink()
    (pbs.tools / "qalter").write_text("#!/bin/bash\necho 'qalter: Unauthorized Request' >&2\nexit 159\n")
    (pbs.tools / "qalter").chmod(0o755)
    status, said = pbs.run(job, env(pbs))
    assert status == 75 and f"ERROR: {waiting} cannot be made to wait for 2.server" in said
    assert pbs.queued == ["2.server"]


@pytest.mark.parametrize(("threads", "of_a_rank"), [("8", "2"), ("3", "3")])
def test_ranks_share_the_cores_that_pbs_gives_their_node(pbs: Pbs, threads: str, of_a_rank: str) -> None:
    """OMP_NUM_THREADS is all of them there, unless the selection says ompthreads."""
    job = submit(pbs, "train_polaris.pbs")
    pbs.run(job, env(pbs, ends=0, NCPUS="8", OMP_NUM_THREADS=threads))
    assert seen(pbs)["OMP_NUM_THREADS"] == of_a_rank
    with pytest.raises(
        InputError, match=r"OMP_NUM_THREADS: PBS sets it anew; allowed: -- -l select=\.\.\.:ompthreads="
    ):
        submit(pbs, "train_polaris.pbs", OMP_NUM_THREADS="3")

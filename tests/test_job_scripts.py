"""The job scripts as text, and those for PBS run as PBS runs them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcauxvae.data.hdf5 import open_set

ROOT = Path(__file__).resolve().parents[1]
JOBS = ROOT / "jobs"
SCRIPTS = sorted([*JOBS.glob("*.sh"), *JOBS.glob("*.pbs")])
PBS = sorted(JOBS.glob("*.pbs"))
SMALL = "--network mlp --batch-size 64"


def directives(script: Path) -> list[str]:
    return re.findall(r"^#(?:PBS|SBATCH) (.*)$", script.read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_and_strict(script: Path) -> None:
    text = script.read_text()
    assert all(len(line) <= 120 for line in text.splitlines())
    if script.name != "lib.sh":
        assert len(text.splitlines()) <= 60
        assert "set -euo pipefail" in text
        assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", [path for path in SCRIPTS if "#SBATCH" in path.read_text()], ids=lambda p: p.name)
def test_slurm_jobs_survive_and_keep_their_log(script: Path) -> None:
    found = directives(script)
    assert "--requeue" in found and "--open-mode=append" in found
    assert any(line.startswith("--output=%x-%") for line in found)
    assert any(line.startswith("--signal=") for line in found) or "evaluate" in script.name


@pytest.mark.parametrize("script", PBS, ids=lambda path: path.name)
def test_directives_keep_the_rules_of_polaris(script: Path) -> None:
    """-A and -q may come from the command line; nothing but directives between the first line and the last of them."""
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash -l"
    last = max(number for number, line in enumerate(lines) if line.startswith("#PBS "))
    assert all(line.startswith("#PBS ") for line in lines[1 : last + 1])
    found = directives(script)
    for needed in (
        r"-l select=\d+:system=polaris",
        "-l place=scatter",
        r"-l walltime=\d\d:\d\d:\d\d",
        "-r y",
        "-q debug",
    ):
        assert any(re.fullmatch(needed, line) for line in found), needed
    assert any(line.startswith("-l filesystems=home:") for line in found)
    assert re.search(r'source "\$\{JOBS:-\$PBS_O_WORKDIR/jobs\}/lib.sh"', script.read_text())


@pytest.fixture
def pbs(tmp_path: Path) -> dict[str, str]:
    """What a PBS job of one node finds: little, and a working directory that is not its own."""
    (tmp_path / "nodes").write_text("127.0.0.1\n")
    (tmp_path / "work").mkdir()
    return {
        "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PBS_JOBID": "17.server",
        "PBS_O_WORKDIR": str(tmp_path / "work"), "PBS_NODEFILE": str(tmp_path / "nodes"), "JOBS": str(JOBS),
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PER_NODE": "2", "DEVICE": "cpu",
    }  # fmt: skip


def start(script: str, env: dict[str, str], **settings: str) -> subprocess.Popen[str]:
    """The body of a PBS script in a session of its own."""
    return subprocess.Popen(
        ["bash", str(JOBS / script)], cwd=env["HOME"], env=env | settings, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.timeout(400)
def test_pbs_jobs_from_simulation_to_a_run_that_is_stopped_and_goes_on(pbs: dict[str, str]) -> None:
    work = Path(pbs["PBS_O_WORKDIR"])
    simulation = start("simulate.pbs", pbs, OUT="g.h5", N="400")
    said, _ = simulation.communicate(timeout=120)
    assert simulation.returncode == 0, said
    assert "g.h5: 400 galaxies, 400 drawn now, ranks: 2," in said and len(open_set(work / "g.h5")) == 400

    settings = {"DATA": "g.h5", "AUX": "radius,g1", "OUT": "runs/x", "TRAIN_OPTIONS": f"{SMALL} --epochs 60"}
    stopped = start("train_polaris.pbs", pbs, **settings, RESUBMIT='echo "$OUT" >>again')
    deadline = time.monotonic() + 120
    while not list(work.glob("runs/x/checkpoints/step-*")):
        assert time.monotonic() < deadline and stopped.poll() is None
        time.sleep(0.1)
    os.killpg(stopped.pid, signal.SIGTERM)  # as qsig and qdel do
    said, _ = stopped.communicate(timeout=120)
    assert stopped.returncode not in (0, 1, 2), said
    assert "submitted again" in said and (work / "again").read_text() == "runs/x\n"

    again = start("train_polaris.pbs", pbs, **settings)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "epoch 60/60" in said and "epoch  1/60" not in said
    assert len((work / "runs/x/metrics.jsonl").read_text().splitlines()) == 60


def test_the_time_that_pbs_leaves(tmp_path: Path) -> None:
    """90 minutes, less five to save in."""
    (tmp_path / "qstat").write_text('#!/bin/bash\necho "    Resource_List.walltime = 01:30:00"\n')
    (tmp_path / "qstat").chmod(0o755)
    text = (JOBS / "lib.sh").read_text()
    function = text[text.index("time_limit() {") :]
    program = function[: function.index("\n}") + 2] + "\nPBS_JOBID=1 time_limit"
    done = subprocess.run(
        ["bash", "-euc", program], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout == "--max-minutes 85\n", done.stderr


@pytest.mark.parametrize(
    ("rank", "local_rank"),
    [("PALS_RANKID", "PALS_LOCAL_RANKID"), ("PMI_RANK", "MPI_LOCALRANKID"),
     ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")],
)  # fmt: skip
def test_each_rank_has_its_log_and_its_gpu(tmp_path: Path, rank: str, local_rank: str) -> None:
    """By the variables of Cray's, MPICH's and Open MPI's launchers; here GPU 3 is nearest to the first cores."""
    env = {"PATH": "/usr/bin:/bin", "LOGS": str(tmp_path), "REVERSE_GPUS": "4", rank: "5", local_rank: "1"}
    command = ["bash", str(JOBS / "each_rank.sh"), "printenv", "CUDA_VISIBLE_DEVICES"]
    subprocess.run(command, env=env, check=True)
    assert (tmp_path / "rank-5.log").read_text().splitlines()[1:] == ["2"]

"""The job scripts as text, and those for PBS run as PBS runs them."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.places import ROOT
from hpcauxvae.cluster.submit import declared
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime import launchers

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
    if script.name not in ("lib.sh", "settings.sh"):
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
def test_directives_of_pbs_ask_for_what_every_site_knows(script: Path) -> None:
    """Queues, selections and file systems are the site's; nothing but directives up to the last of them."""
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash -l"
    last = max(number for number, line in enumerate(lines) if line.startswith("#PBS "))
    assert all(line.startswith("#PBS ") for line in lines[1 : last + 1])
    name, *rest = directives(script)
    assert name.startswith("-N hpcauxvae-") and rest == ["-l walltime=01:00:00", "-r y", "-j oe", "-k doe"]
    assert re.search(r'source "\$\{JOBS:-\$PBS_O_WORKDIR/jobs\}/lib.sh"', script.read_text())


# Given by a machine or a scheduler, or one script to another.
NO_SETTING = (
    r"(SLURM|PBS|PALS|PMI|MPI|OMPI)_\w+|PWD|SECONDS|BASH_SOURCE|LD_LIBRARY_PATH|LOADEDMODULES|CUDA_VISIBLE_DEVICES"
    "|JOBS|SETTINGS|OWN_LOGS|NCPUS"
)


def test_settings_that_are_read_are_declared_and_those_that_are_declared_are_read() -> None:
    """Of all scripts together, whatever they assign themselves left out; pipeline.sh is no job."""
    files = [path for path in SCRIPTS if path.name != "pipeline.sh"]
    text = "\n".join(path.read_text() for path in files)
    code = re.sub(r"^\s*#.*|^(?:SETTINGS=|settings )'\n[^']*'", "", text, flags=re.MULTILINE)
    read = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", code))
    names = {name for path in files for name in declared(path)}
    own = set(re.findall(r"(?:^|\s)([A-Z][A-Z0-9_]*)=", code))
    assert {name for name in read - own if not re.fullmatch(NO_SETTING, name)} <= names
    assert names - {"PREDECESSOR"} <= read  # which training itself reads, too


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, 2, "error: DATA is not set: HDF5 file of images\n"),
        ({"DATA": ""}, 2, "error: DATA is not set: HDF5 file of images\n"),
        ({"DATA": "a b", "N": "3"}, 0, "a b,3,cuda,\n"),
        ({"DATA": "a", "DEVICE": ""}, 0, "a,7,,\n"),
    ],
)
def test_settings_are_given_or_have_defaults(given: dict[str, str], code: int, said: str) -> None:
    block = "DATA!  HDF5 file of images\nN=7  galaxies\nDEVICE=cuda\nCASES  may be empty\n"
    program = f"source settings.sh; settings '\n{block}'; echo \"$DATA,$N,$DEVICE,$CASES\""
    done = subprocess.run(["bash", "-euc", program], cwd=JOBS, env=given, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (code, said)


def test_messages_that_the_documentation_explains_are_said() -> None:
    """Piece by piece, without what is different each time; that of Slurm itself left out."""
    page = (ROOT / "docs" / "clusters.md").read_text().split("## What goes wrong")[1]
    text = "\n".join(path.read_text() for path in [*JOBS.glob("*.sh"), *(ROOT / "hpcauxvae").rglob("*.py")])
    said = re.sub(r"\{[^{}\n]*\}|\$\w+|\"\s+f?\"|\$\(\([^)]*\)\)", " ", text)
    varies = r"\.\.\.|: still|step-|\b[A-Z]{2,}\b|\S*\d\S*|--\w+|jobs/x\.sh|\bsite [xy]\b|\b(?:slurm|pbs)\b|[()]"
    for message in re.findall(r"^\| `(?!mpi/pmi2)([^`]*)`", page, re.MULTILINE):
        for piece in re.split(varies, message):
            assert len(piece.strip()) <= 8 or piece.strip(" :;,") in said, message


def test_pipeline_submits_each_job_after_those_that_it_needs(tmp_path: Path) -> None:
    """With a Python that writes down what it is given and numbers the jobs."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\necho "${{*: 4}}" >>{tmp_path}/said; echo "$(wc -l <{tmp_path}/said);cluster"\n')
    python.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = [f"FOLDER={tmp_path}", "AUX=g1", "SITE=swing", "N=400", "TRAIN_SBATCH=--nodes=4 -t9"]
    pipeline = ["bash", str(JOBS / "pipeline.sh")]
    done = subprocess.run([*pipeline, *words], env=env, capture_output=True, text=True)
    assert done.stdout == "simulate 1, simulate to judge by 2, train 3, evaluate 4\n", done.stderr
    said = (tmp_path / "said").read_text().replace(f"{JOBS}/", "").replace(f"{tmp_path}/", "").splitlines()
    assert said == [
        "simulate.sh --site swing OUT=galaxies.h5 N=400 SEED=7 --",
        "simulate.sh --site swing OUT=fresh.h5 N=32768 SEED=8 --",
        "train_a100.sh --site swing DATA=galaxies.h5 AUX=g1 OUT=run -- --nodes=4 -t9 --dependency=afterok:1 "
        "--kill-on-invalid-dep=yes",
        "evaluate.sh --site swing RUN=run DATA=galaxies.h5 FRESH=fresh.h5 -- --dependency=afterok:3:2 "
        "--kill-on-invalid-dep=yes",
    ]
    refused = subprocess.run([*pipeline, *words[:1]], env=env, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (
        2, "error: AUX is not set: the factors that guide the first latents\n"
    )  # fmt: skip


@pytest.fixture
def pbs(tmp_path: Path) -> dict[str, str]:
    """What a PBS job of one node finds: little, and a working directory that is not its own."""
    (tmp_path / "nodes").write_text("127.0.0.1\n")
    for package in ("hpcauxvae", "hpo"):  # as in a clone, without the kernel
        (tmp_path / "work" / package).mkdir(parents=True)
        (tmp_path / "work" / package / "__init__.py").write_text("raise ImportError('the folder, not the package')\n")
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


@pytest.mark.slow
@pytest.mark.processes
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
    while len(list(work.glob("runs/x/checkpoints/step-*"))) < 2:  # the first is there before its epoch is validated
        assert time.monotonic() < deadline and stopped.poll() is None
        time.sleep(0.1)
    os.killpg(stopped.pid, signal.SIGTERM)  # as qsig and qdel do
    said, _ = stopped.communicate(timeout=120)
    assert stopped.returncode not in (0, 1, 2), said
    assert "not submitted again" in said and not (work / "again").exists()

    again = start("train_polaris.pbs", pbs, **settings)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "epoch 60/60" in said and "epoch  1/60" not in said
    assert len((work / "runs/x/metrics.jsonl").read_text().splitlines()) == 60


def lib(env: dict[str, str], program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Functions of lib.sh in a PBS job of an hour."""
    tools = Path(env["HOME"]) / "tools"
    tools.mkdir(exist_ok=True)
    start = time.ctime(time.time() - float(settings.pop("GONE", "0")))
    says = {"Resource_List.walltime": settings.pop("WALLTIME", "01:00:00"), "stime": start, "run_count": "1"}
    lines = "".join(f"    {name} = {value}\n" for name, value in says.items() if value)
    (tools / "qstat").write_text(f"#!/bin/bash\ncat <<'END'\n{lines}END\n")
    (tools / "qstat").chmod(0o755)
    whole = env | {"OUT": "runs/x", "PATH": f"{tools}:{env['PATH']}"} | settings
    command = ["bash", "-euo", "pipefail", "-c", f'SETTINGS=; source "$JOBS/lib.sh"\n{program}']
    return subprocess.run(command, env=whole, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("walltime", "gone", "minutes"),
    [("01:30:00", 0, 85), ("01:30:00", 600, 75), ("00:04:00", 0, 2), ("00:10:30", 0, 5.5), ("30:00:00", 0, 1795)],
)
def test_the_time_that_pbs_leaves(pbs: dict[str, str], walltime: str, gone: int, minutes: float) -> None:
    """Less five minutes to save in, of which a short job has too few."""
    done = lib(pbs, "time_limit", WALLTIME=walltime, GONE=str(gone))
    option, found = done.stdout.split()
    assert option == "--max-minutes" and float(found) == pytest.approx(minutes, abs=0.05), done.stderr


def test_a_pbs_job_without_a_walltime_has_no_limit(pbs: dict[str, str]) -> None:
    assert lib(pbs, 'time_limit; echo "$RESTARTS"', WALLTIME="").stdout == "0\n"


@pytest.mark.parametrize(("early", "again"), [(-2, True), (3, True), (8, False), (600, False)])
def test_a_node_whose_clock_is_behind_that_of_the_server(pbs: dict[str, str], early: int, again: bool) -> None:
    """A request some seconds before the walltime is over is PBS's own; one of a person tells both times."""
    program = f"stop_asked=yes asked_at=$((ENDS - {early})) status=75\nfinish step-7"
    said = lib(pbs, f"submit_successor() {{ say successor; }}\n{program}", RESUBMIT="none").stdout
    told = re.search(r"not submitted again \(asked \S+ (\S+) on this node, the walltime ends \S+ (\S+)\)", said)
    assert ("successor" in said) == again == (told is None), said
    if told:
        end, asked = (datetime.strptime(text, "%H:%M:%S") for text in reversed(told.groups()))
        assert (end - asked).seconds == early


def test_starts_without_progress_are_counted_from_the_first_job(pbs: dict[str, str]) -> None:
    """Neither those of an earlier job on the same folder count, nor any before one that was finished."""

    def start(status: int = 75, **settings: str) -> bool:
        done = lib(
            pbs,
            f"hand_on() {{ :; }}\nsleep() {{ :; }}\nstatus={status}\nfinish step-7",
            RESUBMIT="echo 18.server",
            MAX_STUCK="2",
            **settings,
        )
        assert done.returncode == status, done.stderr
        return "2 starts ended at step-7: not requeued" in done.stdout

    assert [start(), start(PREDECESSOR="1.server")] == [False, True]
    assert [start(), start(0, PREDECESSOR="1.server"), start(PREDECESSOR="2.server")] == [False] * 3
    assert start(PREDECESSOR="3.server")


def test_a_set_in_several_files_is_read_where_it_lies(pbs: dict[str, str]) -> None:
    """Whether in shards or merged by name; one in a single file is copied."""
    work = Path(pbs["PBS_O_WORKDIR"])
    with h5py.File(work / "part.h5", "w") as file:
        file["images"] = np.zeros((8, 1, 2, 2), np.float32)
    layout = h5py.VirtualLayout((8, 1, 2, 2), np.float32)
    layout[:] = h5py.VirtualSource("part.h5", "images", (8, 1, 2, 2))
    with h5py.File(work / "set.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    stage = "ON_EACH_NODE=\nstage $SET\necho $STAGED\n[ ! -e $STAGED ] || echo there"
    staged = lib(pbs, stage, STAGE=f"{work}/disk", SET="part.h5").stdout.splitlines()
    assert staged[-2:] == [f"{work}/disk/hpcauxvae-17/part.h5", "there"]
    left = lib(pbs, stage, STAGE=f"{work}/disk", SET="set.h5").stdout.splitlines()
    assert "not staged: the images of set.h5 lie in other files" in left[0] and left[1:] == ["set.h5", "there"]


def test_an_array_larger_than_its_cases(pbs: dict[str, str]) -> None:
    env = {name: value for name, value in pbs.items() if not name.startswith("PBS_")}
    (Path(env["HOME"]) / "cases").write_text("--seed 0\n--seed 1\n")
    array = {"SLURM_ARRAY_TASK_ID": "2", "CASES": "cases", "DATA": "no.h5", "AUX": "g1", "OUT": "runs"}
    said, _ = (task := start("train_array.sh", env, **array)).communicate(timeout=60)
    assert task.returncode == 2 and said.rstrip().endswith("CASES has no line 3: cases"), said


@pytest.mark.slow
@pytest.mark.processes
def test_an_evaluation_has_logs_of_its_own(pbs: dict[str, str]) -> None:
    """A training of the same folder may go on meanwhile, and counts its starts there."""
    env = {name: value for name, value in pbs.items() if not name.startswith("PBS_")}
    said, _ = (job := start("evaluate.sh", env, RUN="runs/x/")).communicate(timeout=120)
    assert job.returncode == 2 and "preflight passed" in said, said
    assert [path.name for path in (Path(env["HOME"]) / "logs").iterdir()] == ["runs-x-evaluate"]


def test_each_rank_knows_the_names_of_every_launcher() -> None:
    """Those that the package itself goes by, and no others; torchrun starts no job."""
    asked = set(re.findall(r"[$:{-]([A-Z_]*(?:RANK|RANKID|PROCID))\b", (JOBS / "each_rank.sh").read_text()))
    named = [row for row in launchers._TABLE if row.launcher != "torchrun"]
    assert all(asked & set(row.rank.split()) for row in named)
    assert asked <= {name for row in named for name in f"{row.rank} {row.local_rank}".split()}


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

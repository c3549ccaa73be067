"""`hpcauxvae submit`: what it shows is what the scheduler gets, and what cannot work is said before it is queued."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.cluster.submit import as_written, check_with_slurm, parse, prepare
from hpcauxvae.types import InputError

JOBS = ROOT / "jobs"
NEEDED = {
    "simulate": ["OUT=g.h5"],
    "train": ["DATA=g.h5", "AUX=radius,g1,g2", "OUT=runs/x"],
    "search": ["DATA=g.h5", "AUX=radius,g1,g2", "OUT=searches/x"],
    "evaluate": ["RUN=runs/x"],
}
SITES = sorted(path.stem for path in (JOBS / "sites").glob("*.env"))


def scripts(suffix: str) -> list[Path]:
    """The jobs themselves, without what they share and what submits them."""
    shared = ("lib.sh", "each_rank.sh", "copy_checked.sh", "pipeline.sh")
    return sorted(path for path in JOBS.glob(f"*{suffix}") if path.name not in shared)


def submit(*arguments: str, path: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command with these programs to be found."""
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in env.items() if name not in ("DATA", "OUT", "AUX", "RUN", "ACCOUNT", "SITE")}
    command = [sys.executable, "-m", "hpcauxvae", "submit", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with bash alone; a scheduler that writes down what it is given can be put there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "cat"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def put_scheduler(tools: Path, name: str, body: str) -> None:
    (tools / name).write_text(f"#!/bin/bash\n{body}\n")
    (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("site", SITES)
def test_dry_run_of_every_job_that_a_site_can_run(site: str, tools: Path) -> None:
    for script in scripts(".pbs" if site == "polaris" else ".sh"):
        if site == "workstation" and script.name in ("search.sh", "train_array.sh"):
            continue
        needed = next(settings for kind, settings in NEEDED.items() if script.name.startswith(kind))
        account = ["ACCOUNT=mine"] if "ACCOUNT" in (JOBS / "sites" / f"{site}.env").read_text() else []
        done = submit(str(script), "--site", site, "--dry-run", *needed, *account, path=str(tools))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        command = done.stderr.splitlines()[-1]
        assert command.startswith("command   ") and command.endswith(str(script))
        assert all(setting in command for setting in needed) and f"SITE={site}" in command
        assert ("mine" in command) == bool(account)


def test_what_is_shown_is_what_slurm_gets(tools: Path, tmp_path: Path) -> None:
    put_scheduler(tools, "sbatch", f'echo "$@" >>{tmp_path}/said; env >>{tmp_path}/said; echo 42')
    arguments = ["--site", "perlmutter", "ACCOUNT=m1", "DATA=a b.h5", "AUX=g1,g2", "OUT=runs/x", "--", "--nodes=2"]
    done = submit("jobs/train_a100.sh", *arguments, path=str(tools))
    assert done.returncode == 0 and done.stdout == "42\n"
    tested, given = (line for line in (tmp_path / "said").read_text().splitlines() if "train_a100" in line)
    options = "--export=ALL --account=m1 --qos=regular --constraint=gpu --cpus-per-task=32 --nodes=2 jobs/train_a100.sh"
    assert (tested, given) == (f"--test-only {options}", f"--parsable {options}")
    env = (tmp_path / "said").read_text().splitlines()
    assert {"DATA=a b.h5", "AUX=g1,g2", "SITE=perlmutter", f"JOBS={JOBS}"} <= set(env)
    assert "    --nodes=1   replaced by --nodes=2" in done.stderr.splitlines()
    assert "'DATA=a b.h5' AUX=g1,g2 OUT=runs/x" in done.stderr


def test_what_pbs_gets(tools: Path, tmp_path: Path) -> None:
    put_scheduler(tools, "qsub", f'printf "%s\\n" "$@" >{tmp_path}/said; env >{tmp_path}/env; echo 7.polaris')
    arguments = ["--site", "polaris", "ACCOUNT=mine", "DATA=g.h5", "AUX=g1,g2", "OUT=runs/x"]
    done = submit("jobs/train_polaris.pbs", *arguments, "--", "-l", "select=4:system=polaris", path=str(tools))
    assert done.returncode == 0 and done.stdout == "7.polaris\n"
    said = (tmp_path / "said").read_text().splitlines()
    names = "ACCOUNT,DATA,AUX,OUT,JOBS,SITE,RESUBMIT"
    assert said[:2] == ["-v", names] and said[-3:] == ["-l", "select=4:system=polaris", "jobs/train_polaris.pbs"]
    assert "-A\nmine\n-q\ndebug" in "\n".join(said)
    again = next(line for line in (tmp_path / "env").read_text().splitlines() if line.startswith("RESUBMIT="))
    assert again == f"RESUBMIT=qsub {' '.join(said)}".replace(",RESUBMIT", ",RESUBMIT,PREDECESSOR")


def test_pbs_gets_what_is_set_in_the_environment(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qsub hands on what -v names, and nothing else; of settings, not of what the machine has."""
    for name in ("TRAIN_OPTIONS", "QUEUE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PBS_O_WORKDIR"):
        monkeypatch.setenv(name, f"my {name}")
    arguments = ["--site", "polaris", "--dry-run", "ACCOUNT=mine", "DATA=g.h5", "AUX=g1,g2", "OUT=runs/x", "QUEUE=prod"]
    done = submit("jobs/train_polaris.pbs", *arguments, path=str(tools))
    assert done.returncode == 0, done.stderr
    assert "qsub -v QUEUE,TRAIN_OPTIONS,ACCOUNT,DATA,AUX,OUT,JOBS,SITE,RESUBMIT -A mine -q prod " in done.stderr
    settings = done.stderr.split("\nsettings\n")[1].split("\ncommand")[0]
    assert "    TRAIN_OPTIONS=my TRAIN_OPTIONS\n    ACCOUNT=mine\n" in settings and "QUEUE=prod" in settings


def test_slurm_that_would_refuse(tools: Path) -> None:
    put_scheduler(tools, "sbatch", 'echo "allocation failure: Invalid qos specification" >&2; exit 1')
    done = submit("jobs/simulate.sh", "OUT=g.h5", path=str(tools))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: Slurm would refuse the job: allocation failure: Invalid qos specification"
    )


@pytest.mark.parametrize(
    "said",
    [
        "allocation failure: Unable to contact slurm controller (connect failure)",
        "sbatch: fatal: Could not establish a configuration source",
    ],
)
def test_slurm_that_is_not_there(said: str, tools: Path) -> None:
    """A dry run is good without, a submission is not."""
    put_scheduler(tools, "sbatch", f'echo "{said}" >&2; exit 1')
    done = submit("jobs/simulate.sh", "OUT=g.h5", "--dry-run", path=str(tools))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"not checked: no answer from Slurm: {said}")
    done = submit("jobs/simulate.sh", "OUT=g.h5", path=str(tools))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"error: no answer from Slurm: {said}")


def test_slurm_that_is_slow(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_scheduler(tools, "sbatch", "exec /bin/sleep 60")
    monkeypatch.setattr("hpcauxvae.cluster.submit._SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(tools))
    request = parse([str(JOBS / "simulate.sh"), "OUT=g.h5"])
    assert request is not None
    with pytest.raises(InputError, match=r"no answer from Slurm in 0\.2 s"):
        check_with_slurm(prepare(request))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs/none.sh"], "jobs/none.sh: no such job script"),
        ([], "no job script is given; allowed: one of jobs/*.sh and jobs/*.pbs"),
        (
            ["jobs/simulate.sh", "--nodes=2"],
            "'--nodes=2' is not understood; options of sbatch and qsub stand behind --",
        ),
        (["jobs/simulate.sh"], "OUT is not set: the HDF5 file to make; say OUT=... behind jobs/simulate.sh"),
        (["jobs/simulate.sh", "OUT=g.h5", "SEDE=3"], "SEDE: jobs/simulate.sh does not read it; it reads N, OUT, SEED,"),
        (
            ["jobs/simulate.sh", "OUT=g.h5", "--site", "mars"],
            "--site mars: unknown; allowed: local, perlmutter, polaris",
        ),
        (["jobs/simulate.sh", "OUT=g.h5", "--site", "swing"], "site swing needs --account, and nothing gives it"),
        (
            ["jobs/simulate.sh", "OUT=g.h5", "--site", "workstation", "--", "-N2"],
            "workstation has no scheduler to take -N2",
        ),
        (["jobs/simulate.sh", "OUT=g.h5", "--site", "polaris"], "simulate.sh is for slurm, and site polaris has pbs"),
        (
            ["jobs/pipeline.sh", "--site", "swing"],
            "it is no job; allowed: one of jobs/*.sh and jobs/*.pbs that has; pip",
        ),
        (["jobs/lib.sh"], "jobs/lib.sh: has no lines #SBATCH or #PBS"),
        (["jobs/simulate.pbs", "--site", "workstation"], "simulate.pbs: cannot run on site workstation, without a sch"),
        (["jobs/train_array.sh", "--site", "workstation"], "without a scheduler: it is an array of jobs"),
        (["jobs/search.sh", "--site", "workstation"], "without a scheduler: its trials are Slurm steps; python -m hpo"),
        (
            ["jobs/simulate.sh", "OUT=g.h5", "--site", "swing", "ACCOUNT=o'neill"],
            "site swing: the options --account=o'neill --gres=gpu:1 --ntasks-per-node=16 are no words of a shell: No",
        ),
        (["jobs/simulate.sh", "OUT=g.h5"], "there is no sbatch here; submit from a login node of the cluster"),
    ],
)
def test_refused_before_it_is_queued(arguments: list[str], message: str, tools: Path) -> None:
    done = submit(*arguments, path=str(tools))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ") and message in done.stderr


def test_settings_of_tools_are_taken_and_a_site_is_overridden() -> None:
    request = parse(["jobs/simulate.pbs", "--site=polaris", "OUT=g", "ACCOUNT=a", "QUEUE=prod", "NCCL_DEBUG=INFO"])
    assert request is not None
    assert prepare(request).options == ["-A", "a", "-q", "prod", "-l", "filesystems=home:eagle"]


def test_a_site_file_that_bash_cannot_read(tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    (tmp_path / "jobs/sites/bad.env").write_text("ACCOUNT='m1\n")
    request = parse([str(tmp_path / "jobs/simulate.sh"), "--site", "bad", "OUT=g.h5"])
    assert request is not None
    with pytest.raises(InputError, match=r"bad\.env: bash cannot read it: .*unexpected EOF"):
        prepare(request)


def test_a_copy_of_one_script_elsewhere(tmp_path: Path) -> None:
    shutil.copy(JOBS / "simulate.sh", tmp_path)
    request = parse([str(tmp_path / "simulate.sh"), "OUT=g.h5"])
    assert request is not None
    with pytest.raises(InputError, match=r"simulate\.sh: lib\.sh is not beside it; allowed: a script in jobs/"):
        prepare(request)


def test_short_options_are_known(tools: Path) -> None:
    """Those that a site needs, and those that replace a directive."""
    for account in (["-A", "mine"], ["-Amine"]):
        arguments = ["jobs/simulate.sh", "OUT=g.h5", "--site", "swing", "--dry-run", "--", *account, "-t10", "-N", "2"]
        done = submit(*arguments, path=str(tools))
        assert done.returncode == 0, done.stderr
        shown = {line.strip() for line in done.stderr.splitlines()}
        assert {"--time=01:00:00   replaced by -t10", "--nodes=1   replaced by -N 2", " ".join(account)} <= shown


def test_pbs_jobs_say_whether_they_want_gpus(tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    site = "SUBMIT_WITH=pbs\nSUBMIT_GPU='-l select=1:ngpus=4'\nSUBMIT_CPU='-l select=1:ncpus=64'\n"
    (tmp_path / "jobs/sites/x.env").write_text(site)
    for script in scripts(".pbs"):
        needed = next(settings for kind, settings in NEEDED.items() if script.name.startswith(kind))
        request = parse([str(tmp_path / "jobs" / script.name), "--site=x", *needed])
        assert request is not None
        wanted = "select=1:ncpus=64" if "simulate" in script.name else "select=1:ngpus=4"
        assert prepare(request).options == ["-l", wanted]


def test_options_and_their_values_stay_together() -> None:
    assert as_written(["-l", "select=2", "--time", "3:00", "-N2"]) == ["-l select=2", "--time 3:00", "-N2"]


def test_workstation_runs_at_once(tools: Path, tmp_path: Path) -> None:
    script = tmp_path / "jobs" / "hello.sh"
    shutil.copytree(JOBS, tmp_path / "jobs")
    script.write_text('#!/bin/bash\n#SBATCH --nodes=1\n: "${OUT:?is not set}"\necho "$OUT $SITE"; exit 75\n')
    done = submit(str(script), "--site", "workstation", "OUT=x", path=str(tools))
    assert (done.returncode, done.stdout) == (75, "x workstation\n")

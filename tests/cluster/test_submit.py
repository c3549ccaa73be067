"""`hpcauxvae submit`: what it shows is what the scheduler gets, and what cannot work is said before it is queued."""

import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.cluster.submit import as_written, check_with_slurm, main, parse, prepare
from hpcauxvae.types import InputError

JOBS = ROOT / "jobs"
NEEDED = {
    "simulate": ["OUT=g.h5"],
    "train": ["DATA=g.h5", "AUX=radius,g1,g2", "OUT=runs/x"],
    "search": ["DATA=g.h5", "AUX=radius,g1,g2", "OUT=searches/x"],
    "evaluate": ["RUN=runs/x"],
}
Submit = Callable[..., subprocess.CompletedProcess[str]]
SITES = sorted(path.stem for path in (JOBS / "sites").glob("*.env"))


def scripts(suffix: str) -> list[Path]:
    """The jobs themselves, without what they share and what submits them."""
    shared = ("settings.sh", "lib.sh", "each_rank.sh", "copy_checked.sh", "pipeline.sh")
    return sorted(path for path in JOBS.glob(f"*{suffix}") if path.name not in shared)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with bash alone; a scheduler that writes down what it is given can be put there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "cat"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


@pytest.fixture
def submit(tools: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Submit:
    """The command in this process, typed in the repository, with these programs to be found."""
    for name in ("DATA", "OUT", "AUX", "RUN", "ACCOUNT", "SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.chdir(ROOT)

    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        try:
            code = main(arguments)
        except InputError as error:
            code = 2
            print(f"error: {error}", file=sys.stderr)
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return typed


def put_scheduler(tools: Path, name: str, body: str) -> None:
    (tools / name).write_text(f"#!/bin/bash\n{body}\n")
    (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("site", SITES)
def test_dry_run_of_every_job_that_a_site_can_run(site: str, submit: Submit) -> None:
    for script in scripts(".pbs" if site == "polaris" else ".sh"):
        if site == "workstation" and script.name in ("search.sh", "train_array.sh"):
            continue
        needed = next(settings for kind, settings in NEEDED.items() if script.name.startswith(kind))
        account = ["ACCOUNT=its-account"] if "ACCOUNT" in (JOBS / "sites" / f"{site}.env").read_text() else []
        done = submit(str(script), "--site", site, "--dry-run", *needed, *account)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        command = done.stderr.splitlines()[-1]
        assert command.startswith("command   ") and command.endswith(str(script))
        assert all(setting in command for setting in needed) and f"SITE={site}" in command
        assert ("its-account" in command) == bool(account)


def test_what_is_shown_is_what_slurm_gets(tools: Path, submit: Submit, tmp_path: Path) -> None:
    put_scheduler(tools, "sbatch", f'echo "$@" >>{tmp_path}/said; env >>{tmp_path}/said; echo 42')
    arguments = ["--site", "perlmutter", "ACCOUNT=m1", "DATA=a b.h5", "AUX=g1,g2", "OUT=runs/x", "--", "--nodes=2"]
    done = submit("jobs/train_a100.sh", *arguments)
    assert done.returncode == 0 and done.stdout == "42\n"
    tested, given = (line for line in (tmp_path / "said").read_text().splitlines() if "train_a100" in line)
    options = (
        f"--export=ALL --account=m1 --qos=regular --constraint=gpu --cpus-per-task=32 --nodes=2 {JOBS}/train_a100.sh"
    )
    assert (tested, given) == (f"--test-only {options}", f"--parsable {options}")
    settings = {"DATA=a b.h5", "AUX=g1,g2", "SITE=perlmutter", f"JOBS={JOBS}"}
    assert settings <= set((tmp_path / "said").read_text().splitlines())
    assert "    --nodes=1   replaced by --nodes=2" in done.stderr.splitlines()
    command = next(line for line in done.stderr.splitlines() if line.startswith("command   "))
    (tmp_path / "said").unlink()
    pasted = subprocess.run(
        ["bash", "-c", command.removeprefix("command   ")], capture_output=True, text=True, cwd=tmp_path
    )
    assert (pasted.returncode, pasted.stdout) == (0, "42\n"), pasted.stderr
    assert {given, *settings} <= set((tmp_path / "said").read_text().splitlines())


def test_what_pbs_gets(tools: Path, submit: Submit, tmp_path: Path) -> None:
    put_scheduler(tools, "qsub", f'printf "%s\\n" "$@" >{tmp_path}/said; env >{tmp_path}/env; echo 7.polaris')
    arguments = ["--site", "polaris", "ACCOUNT=mine", "DATA=g.h5", "AUX=g1,g2", "OUT=runs/x"]
    done = submit("jobs/train_polaris.pbs", *arguments, "--", "-l", "select=4:system=polaris")
    assert done.returncode == 0 and done.stdout == "7.polaris\n"
    said = (tmp_path / "said").read_text().splitlines()
    names = "ACCOUNT,DATA,AUX,OUT,JOBS,SITE,RESUBMIT"
    assert said[:2] == ["-v", names] and said[-3:] == ["-l", "select=4:system=polaris", f"{JOBS}/train_polaris.pbs"]
    assert "-A\nmine\n-q\ndebug" in "\n".join(said)
    again = next(line for line in (tmp_path / "env").read_text().splitlines() if line.startswith("RESUBMIT="))
    assert again == f"RESUBMIT=qsub {' '.join(said)}".replace(",RESUBMIT", ",RESUBMIT,PREDECESSOR")


def test_pbs_gets_what_is_set_in_the_environment(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    """qsub hands on what -v names, and nothing else; of settings, not of what the machine has."""
    for name in ("TRAIN_OPTIONS", "QUEUE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PBS_O_WORKDIR"):
        monkeypatch.setenv(name, f"my {name}")
    arguments = ["--site", "polaris", "--dry-run", "ACCOUNT=mine", "DATA=g.h5", "AUX=g1,g2", "OUT=runs/x", "QUEUE=prod"]
    done = submit("jobs/train_polaris.pbs", *arguments)
    assert done.returncode == 0, done.stderr
    assert "qsub -v QUEUE,TRAIN_OPTIONS,ACCOUNT,DATA,AUX,OUT,JOBS,SITE,RESUBMIT -A mine -q prod " in done.stderr
    settings = done.stderr.split("\nsettings\n")[1].split("\ncommand")[0]
    assert "    TRAIN_OPTIONS=my TRAIN_OPTIONS\n    ACCOUNT=mine\n" in settings and "QUEUE=prod" in settings


def test_slurm_that_would_refuse(tools: Path, submit: Submit) -> None:
    put_scheduler(tools, "sbatch", 'echo "allocation failure: Invalid qos specification" >&2; exit 1')
    done = submit("jobs/simulate.sh", "OUT=g.h5")
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
def test_slurm_that_is_not_there(said: str, tools: Path, submit: Submit) -> None:
    """A dry run is good without, a submission is not."""
    put_scheduler(tools, "sbatch", f'echo "{said}" >&2; exit 1')
    done = submit("jobs/simulate.sh", "OUT=g.h5", "--dry-run")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"not checked: no answer from Slurm: {said}")
    done = submit("jobs/simulate.sh", "OUT=g.h5")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"error: no answer from Slurm: {said}")


def test_slurm_that_is_slow(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_scheduler(tools, "sbatch", "exec /bin/sleep 60")
    monkeypatch.setattr("hpcauxvae.cluster.submit._SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(tools))
    request = parse([str(JOBS / "simulate.sh"), "OUT=g.h5"])
    with pytest.raises(InputError, match=r"no answer from Slurm in 0\.2 s"):
        check_with_slurm(prepare(request))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs/none.sh"], "jobs/none.sh: no such job script; allowed: one of jobs/*.sh and jobs/*.pbs"),
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
        (["jobs/simulate.pbs", "OUT=g.h5", "--", "-J", "0-2"], "-J: all jobs of an array would write to one OUT"),
        (["jobs/simulate.pbs", "OUT=g.h5", "RESUBMIT=qsub x"], "RESUBMIT: it is made of what stands here"),
        (["jobs/simulate.pbs", "--site=polaris", "SITE=swing"], "SITE=swing and --site polaris: allowed: one site"),
        (["jobs/simulate.pbs", "OUT=g.h5", "PER_NODE="], "PER_NODE is empty; allowed: a value; without it, 32"),
        (
            ["jobs/simulate.pbs", "OUT=g.h5", "--", "walltime=9"],
            "'walltime=9' behind -- is no option; allowed: such as",
        ),
        (
            ["jobs/train_polaris.pbs", "DATA=g.h5", "AUX=g1", "OUT=r", "TRAIN_OPTIONS=--epochs 1 --bach-size 9"],
            "TRAIN_OPTIONS=--epochs 1 --bach-size 9: Unrecognized options: --bach-size, 9; allowed: hpcauxvae train",
        ),
        (
            ["jobs/train_polaris.pbs", "DATA=g.h5", "AUX=g1", "OUT=r", "TRAIN_OPTIONS=--latents 0"],
            "TRAIN_OPTIONS=--latents 0: latents = 0; allowed:",
        ),
        (["jobs/simulate.sh", "OUT=g.h5"], "there is no sbatch here; submit from a login node of the cluster"),
    ],
)
def test_refused_before_it_is_queued(arguments: list[str], message: str, submit: Submit) -> None:
    done = submit(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ") and message in done.stderr


def test_settings_of_tools_are_taken_and_a_site_is_overridden() -> None:
    request = parse(["jobs/simulate.pbs", "--site=polaris", "OUT=g", "ACCOUNT=a", "QUEUE=prod", "NCCL_DEBUG=INFO"])
    assert prepare(request).options == [
        "-A", "a", "-q", "prod", "-l", "select=1:system=polaris", "-l", "place=scatter", "-l", "filesystems=home:eagle"
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["--site", "command line", "environment"])
def test_a_site_is_a_site_wherever_it_is_named(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job reads its file: its options must not be missing. STAGE, which may be empty, is empty then."""
    words = {"--site": ["--site", "polaris"], "command line": ["SITE=polaris"]}.get(where, [])
    if where == "environment":
        monkeypatch.setenv("SITE", "polaris")
    found = prepare(parse([f"{JOBS}/simulate.pbs", *words, "ACCOUNT=mine", "OUT=g.h5", "STAGE="]))
    assert found.options[:2] == ["-A", "mine"] and (found.settings["SITE"], found.settings["STAGE"]) == ("polaris", "")


def test_a_site_of_the_environment_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE", "polaris")
    found = prepare(parse([f"{JOBS}/simulate.pbs", "SITE=", "OUT=g.h5"]))
    assert found.options == [] and found.settings["SITE"] == ""


def test_where_the_scripts_are_is_said_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"jobs/train_a100\.sh: no such job script; allowed: one of {JOBS}/\*\.sh and "
    ):
        parse(["jobs/train_a100.sh"])


def test_an_unknown_setting_is_named_with_those_that_are_allowed(submit: Submit) -> None:
    """Of the script, of every job, of the site; a comment or a variable of its own is no setting."""
    said = submit("jobs/train_polaris.pbs", "--site", "polaris", "NODE=2").stderr.splitlines()[-1]
    of_script, of_every_job = said.removeprefix("error: NODE: jobs/train_polaris.pbs does not read it; ").split("; ")
    assert of_script == "it reads AUX, DATA, DEVICE, OUT, PER_NODE, TRAIN_OPTIONS"
    for name in ("SPACE_GB", "STAGE", "QUEUE", "NODES", "NCCL_"):
        assert f" {name}" in of_every_job
    assert "NEEDED" not in said


@pytest.mark.parametrize("given", ["(-q work -W 'umask=022 x')", "'-q work -W \"umask=022 x\"'", "()", "''"])
def test_options_of_a_site_as_text_or_as_an_array(given: str, tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    (tmp_path / "jobs/sites/x.env").write_text(f"SUBMIT_WITH=pbs\nNEEDED=(-l walltime)\nSUBMIT_OPTIONS={given}\n")
    request = parse([str(tmp_path / "jobs/simulate.pbs"), "--site=x", "OUT=g.h5"])
    assert prepare(request).options == ["-q", "work", "-W", "umask=022 x"] * ("-q" in given)
    with (tmp_path / "jobs/sites/x.env").open("a") as file:
        file.write("NEEDED=(-l mem=)\n")
    with pytest.raises(InputError, match="site x needs mem, and nothing gives it"):
        prepare(request)


@pytest.mark.parametrize("given", [["-v", "A=1"], ["-vA=1"], ["-hvA=1"], ["-v", "A=0", "-v", "A=1"]])
def test_pbs_gets_one_list_of_variables(given: list[str], submit: Submit) -> None:
    """qsub keeps the last -v only."""
    done = submit("jobs/simulate.pbs", "OUT=g.h5", "--dry-run", "--", *given, "-q", "work")
    hold = "-h " * ("-hvA=1" in given)
    script = f"-q work {JOBS}/simulate.pbs"
    assert f"qsub -v OUT,JOBS,RESUBMIT,A=1 {hold}{script}" in done.stderr
    assert f"    RESUBMIT=qsub -v OUT,JOBS,RESUBMIT,A=1,PREDECESSOR {script}\n" in done.stderr


def test_a_variable_of_pbs_replaces_a_setting_and_keeps_its_commas(submit: Submit) -> None:
    done = submit("jobs/simulate.pbs", "OUT=g.h5", "--dry-run", "--", "-v", 'OUT=h.h5,B="x,y,z",HOME')
    assert "qsub -v 'OUT=h.h5,JOBS,RESUBMIT,B=\"x,y,z\",HOME' /" in done.stderr


@pytest.mark.parametrize("given", [["-l", "walltime=1:00:00"], ["-hl", "walltime=1:00:00"], ["-lwalltime=1:00:00"]])
def test_a_later_resource_replaces_an_earlier_one(given: list[str], submit: Submit) -> None:
    done = submit("jobs/simulate.pbs", "OUT=g.h5", "--dry-run", "--", "-l", "walltime=9:00:00,mem=8gb", *given)
    assert "qsub -v OUT,JOBS,RESUBMIT -l mem=8gb " + "-h " * ("-hl" in given) + "-l walltime=1:00:00 /" in done.stderr
    assert "RESUBMIT,PREDECESSOR -l mem=8gb -l walltime=1:00:00 /" in done.stderr
    assert "replaced by -l walltime=1:00:00\n" in done.stderr and "9:00" not in done.stderr


def test_a_site_file_that_bash_cannot_read(tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    (tmp_path / "jobs/sites/bad.env").write_text("ACCOUNT='m1\n")
    request = parse([str(tmp_path / "jobs/simulate.sh"), "--site", "bad", "OUT=g.h5"])
    with pytest.raises(InputError, match=r"bad\.env: bash cannot read it: .*unexpected EOF"):
        prepare(request)


def test_a_copy_of_one_script_elsewhere(tmp_path: Path) -> None:
    shutil.copy(JOBS / "simulate.sh", tmp_path)
    request = parse([str(tmp_path / "simulate.sh"), "OUT=g.h5"])
    with pytest.raises(InputError, match=r"simulate\.sh: lib\.sh is not beside it; allowed: a script in jobs/"):
        prepare(request)


def test_what_a_later_option_replaces_and_data_that_is_not_here_are_said(submit: Submit) -> None:
    arguments = ["jobs/train_a100.sh", "--site=perlmutter.env", "ACCOUNT=m1", "DATA=no.h5", "AUX=g1", "OUT=r"]
    done = submit(*arguments, "TRAIN_OPTIONS=--epochs 1", "--dry-run", "--", "--qos=debug")
    assert done.returncode == 0 and "warning: DATA=no.h5: no such file here" in done.stderr
    assert "    --qos=regular   replaced by --qos=debug\n" in done.stderr


def test_a_site_says_by_which_program(tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    (tmp_path / "jobs/sites/x.env").write_text("SUBMIT_WITH=slrum\n")
    with pytest.raises(InputError, match="site x: SUBMIT_WITH=slrum; allowed: slurm, pbs, none"):
        prepare(parse([str(tmp_path / "jobs/simulate.sh"), "--site=x", "OUT=g.h5"]))


def test_short_options_are_known(submit: Submit) -> None:
    """Those that a site needs, and those that replace a directive."""
    for account in (["-A", "mine"], ["-Amine"]):
        arguments = ["jobs/simulate.sh", "OUT=g.h5", "--site", "swing", "--dry-run", "--", *account, "-t10", "-N", "2"]
        done = submit(*arguments)
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
        wanted = "select=1:ncpus=64" if "simulate" in script.name else "select=1:ngpus=4"
        assert prepare(request).options == ["-l", wanted]


def test_options_and_their_values_stay_together() -> None:
    assert as_written(["-l", "select=2", "--time", "3:00", "-N2"]) == ["-l select=2", "--time 3:00", "-N2"]


def test_workstation_runs_at_once(submit: Submit, tmp_path: Path) -> None:
    script = tmp_path / "jobs" / "hello.sh"
    shutil.copytree(JOBS, tmp_path / "jobs")
    script.write_text("#!/bin/bash\n#SBATCH --nodes=1\nSETTINGS='\nOUT!  a word\n'\necho $OUT $SITE; exit 75\n")
    done = submit(str(script), "--site", "workstation", "OUT=x")
    assert (done.returncode, done.stdout) == (75, "x workstation\n")

"""`hpcauxvae submit JOB [--site SITE] [--dry-run] [NAME=VALUE ...] [-- OPTION ...]`: a job script, into the queue.

Reads the script's own directives, the options of the site (jobs/sites/SITE.env) and those given after `--`; a later one
replaces an earlier one. Shows what will be submitted, checks it, and submits it unchanged. The job's number alone goes
to standard output.
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hpcauxvae.types import InputError

# Read by the programs that a job starts, not by the scripts.
_TOOLS = ("NCCL_", "OMP_", "MKL_", "TORCH_", "CUDA_", "FI_", "HDF5_", "MPICH_", "MPIR_")
_SHARED = ("lib.sh", "settings.sh", "each_rank.sh")
_LONG = {
    "-A": "--account", "-C": "--constraint", "-N": "--nodes", "-a": "--array", "-p": "--partition", "-q": "--qos",
    "-t": "--time",
}  # fmt: skip
"""Short forms of options of sbatch."""
_FLAGS = "GIVXfhz"
"""Options of qsub without a value, which may share a dash with the next."""
_NO_ANSWER = "Unable to contact|Could not establish a configuration source|Socket timed out|Connection (refused|timed)"
_NAMES = {"slurm": "Slurm, by sbatch", "pbs": "PBS, by qsub", "none": "no scheduler: it runs here, now"}
_SECONDS = 60

Scheduler = Literal["slurm", "pbs", "none"]


class Request(NamedTuple):
    """The command line."""

    script: Path
    site: str | None
    dry_run: bool
    settings: dict[str, str]
    options: list[str]
    """Of sbatch or qsub, above all others."""


class Submission(NamedTuple):
    """What goes to the scheduler."""

    scheduler: Scheduler
    script: Path
    directives: list[str]
    """Of the script, each as it is written."""
    options: list[str]
    """Of the command, which replace directives."""
    settings: dict[str, str]
    """Variables of the job, in the environment of `command`."""
    command: list[str]


def parse(arguments: Sequence[str]) -> Request:
    """The command line. Raises InputError."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="hpcauxvae submit",
        usage="%(prog)s JOB [--site SITE] [--dry-run] [NAME=VALUE ...] [-- OPTION ...]",
        epilog="OPTION is one of sbatch or qsub; it replaces the script's directive and the site's option.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "job", nargs="*", help="a job script, such as jobs/train_a100.sh, and settings that it declares"
    )
    parser.add_argument("--site", help="settings of a cluster: the file SITE.env beside the script, in sites/")
    parser.add_argument("--dry-run", action="store_true", help="show and check, do not submit")
    given, unknown = parser.parse_known_intermixed_args(arguments[:at])
    settings = dict(word.split("=", 1) for word in given.job if re.match(r"[A-Z][A-Z0-9_]*=", word))
    scripts = [word for word in given.job if not re.match(r"[A-Z][A-Z0-9_]*=", word)]
    if wrong := [*unknown, *scripts[1:]]:
        raise InputError(f"{wrong[0]!r} is not understood; options of sbatch and qsub stand behind --; see --help")
    if not scripts:
        raise InputError(f"no job script is given; allowed: {_where_scripts_are()}")
    if not (script := Path(scripts[0])).is_file():
        raise InputError(f"{script}: no such job script; allowed: {_where_scripts_are()}")
    if "RESUBMIT" in settings:
        raise InputError("RESUBMIT: it is made of what stands here; allowed: nothing")
    named = given.site and given.site.removesuffix(".env")
    site = settings.pop("SITE", named or os.environ.get("SITE"))  # a job reads its site's file either way
    if named not in (None, site):
        raise InputError(f"SITE={site} and --site {given.site}: allowed: one site")
    options = list(arguments[at + 1 :])
    if options and not options[0].startswith("-"):
        raise InputError(f"{options[0]!r} behind -- is no option; allowed: such as -l walltime=3:00:00")
    return Request(script, site, given.dry_run, settings, options)


def _where_scripts_are() -> str:
    """For a message: here, or in the clone that this package is installed from."""
    clone = Path(__file__).resolve().parents[2] / "jobs"
    if Path("jobs").is_dir():
        return "one of jobs/*.sh and jobs/*.pbs"
    if clone.is_dir():
        return f"one of {clone}/*.sh and {clone}/*.pbs"
    return "a script of the folder jobs in a clone of hpcauxvae, which is not here"


def prepare(request: Request) -> Submission:
    """Everything put together. Raises InputError where the script would not run, or the site would not take it."""
    text, folder = request.script.read_text(), request.script.parent
    directives = re.findall(r"^#(?:SBATCH|PBS) +(.*?) *$", text, re.MULTILINE)
    if not directives:
        raise InputError(
            f"{request.script}: has no lines #SBATCH or #PBS, so it is no job; allowed: one of jobs/*.sh and "
            "jobs/*.pbs that has; pipeline.sh submits several itself: bash jobs/pipeline.sh SITE=... FOLDER=... AUX=..."
        )
    site = read_site(folder, request.site, request.settings) if request.site else {}
    scheduler = _scheduler(request, site, directives, text)
    known = check_settings(request, site)
    check_train(request.settings)
    on_gpus = "gpu" in " ".join(directives) or "DEVICE" in declared(request.script)
    of_site = f"{site.get('SUBMIT_OPTIONS', '')} {site.get('SUBMIT_GPU' if on_gpus else 'SUBMIT_CPU', '')}"
    try:
        options, needed = [*shlex.split(of_site), *request.options], shlex.split(site.get("NEEDED", ""))
    except ValueError as error:
        raise InputError(
            f"site {request.site}: the options {of_site.strip()} are no words of a shell: {error}"
        ) from error
    given = " ".join([*directives, *options, *(_subject(option) for option in as_written(options))])
    for word in needed:
        if word not in given:
            raise InputError(
                f"site {request.site} needs {word.rstrip('=')}, and nothing gives it; set it in "
                f"{folder}/sites/{request.site}.env (ACCOUNT=... does on the command line, too), or behind --"
            )
    if scheduler == "none" and options:
        raise InputError(f"site {request.site} has no scheduler to take {shlex.join(options)}")
    settings = {**request.settings, "JOBS": str(folder.absolute())}
    if request.site is not None:  # SITE= takes that of the environment away
        settings["SITE"] = request.site
    script = str(request.script.absolute())
    qsub = as_qsub_reads(options)
    match scheduler:
        case "slurm":
            command = ["sbatch", "--parsable", "--export=ALL", *options, script]
        case "pbs" if any(name == "-J" for name, _ in qsub):
            raise InputError(
                f"{request.script}: -J: all jobs of an array would write to one OUT; allowed: a job for each"
            )
        case "pbs" if "OMP_NUM_THREADS" in request.settings:
            raise InputError("OMP_NUM_THREADS: PBS sets it anew; allowed: -- -l select=...:ompthreads=...")
        case "pbs":  # it hands on what its last -v names; a job cannot go back into the queue: RESUBMIT is a successor
            settings = {name: os.environ[name] for name in known if name in os.environ} | settings
            names = {name: name for name in [*settings, "RESUBMIT"]} | _variables(directives) | _variables(_words(qsub))
            options, others = _words(qsub), [option for option in qsub if option[0] != "-v"]
            command = ["qsub", "-v", ",".join(names.values()), *_words(others), script]
            names["PREDECESSOR"] = "PREDECESSOR"
            again = ["qsub", "-v", ",".join(names.values()), *_words(of_a_successor(others)), script]
            settings["RESUBMIT"] = shlex.join(again)
        case "none":
            command = ["bash", script]
    return Submission(scheduler, request.script, directives, options, settings, command)


def _scheduler(request: Request, site: dict[str, str], directives: Sequence[str], text: str) -> Scheduler:
    """Of the script, or none where the site has none. Raises InputError where they do not fit."""
    own: Scheduler = "pbs" if re.search(r"^#PBS ", text, re.MULTILINE) else "slurm"
    with_ = site.get("SUBMIT_WITH", own)
    if with_ not in ("slurm", "pbs", "none"):
        raise InputError(f"site {request.site}: SUBMIT_WITH={with_}; allowed: slurm, pbs, none")
    if with_ == "none":
        check_runs_here(request, directives, text)
        return "none"
    if with_ != own:
        raise InputError(f"{request.script} is for {own}, and site {request.site} has {with_}")
    return own


def as_qsub_reads(options: Sequence[str]) -> list[tuple[str, str]]:
    """Each option with its value: of -hl mem=1gb,walltime=9 they are -h, -l mem=1gb and -l walltime=9.

    Of a resource that is asked for twice, the last.
    """
    found: list[tuple[str, str]] = []
    for option in as_written(options):
        while re.match(f"-[{_FLAGS}][A-Za-z]", option):
            found.append((option[:2], ""))
            option = f"-{option[2:]}"
        name, value = option[:2], option[2:].lstrip()
        found += [(name, part) for part in (re.split(r",(?=\w+=)", value) if name == "-l" else [value])]
    last = {value.partition("=")[0]: at for at, (name, value) in enumerate(found) if name == "-l"}
    return [(name, v) for at, (name, v) in enumerate(found) if name != "-l" or last[v.partition("=")[0]] == at]


def _variables(words: Sequence[str]) -> dict[str, str]:
    """What -v of qsub names, by name: NAME or NAME=VALUE, whose value may have commas in quotes."""
    values = [option[2:].strip() for option in as_written(words) if option.startswith("-v")]
    parts = [part for value in values for part in re.split(r",(?=\w+(?:[=,]|$))", value)]
    return {part.split("=")[0]: part for part in parts}


def _words(options: Sequence[tuple[str, str]]) -> list[str]:
    return [word for option in options for word in option if word]


def of_a_successor(options: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The options of qsub without those that are for the first job alone: what it waits for, and how it is shown.

    PBS deletes a job that depends on one that is gone, and keeps for ever one that is held.
    """
    kept = []
    for name, value in options:
        if name == "-W":  # attributes, as depend=afterok:1:2,afterany:3,umask=22
            attributes = re.split(r",(?=\w+=)", value)
            value = ",".join(part for part in attributes if not re.match("(depend|block)=", part))
        if name not in ("-h", "-a", "-z", "-I") and (value or name != "-W"):
            kept.append((name, value))
    return kept


def check_runs_here(request: Request, directives: Sequence[str], text: str) -> None:
    """Raises InputError for a script that needs a scheduler."""
    reasons = {
        "it is for PBS": re.search(r"^#PBS ", text, re.MULTILINE),
        "it is an array of jobs": any(_subject(directive) == "--array" for directive in directives),
        "its trials are Slurm steps; python -m hpo.search runs without (docs/search.md)": "--launcher slurm" in text,
    }
    for reason, holds in reasons.items():
        if holds:
            raise InputError(f"{request.script}: cannot run on site {request.site}, without a scheduler: {reason}")


def read_site(folder: Path, site: str, settings: dict[str, str]) -> dict[str, str]:
    """The variables that a site file sets, as bash sees them, where these settings are given. Raises InputError."""
    path = folder / "sites" / f"{site}.env"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.env"))
        raise InputError(f"--site {site}: unknown; allowed: {', '.join(known)}, or write {path} (docs/clusters.md)")
    program = """set -eua; NCCL_SETTINGS=(); source "$1/settings.sh"; source "$2"
        for name in SUBMIT_OPTIONS SUBMIT_GPU SUBMIT_CPU NEEDED; do  # env shows no arrays
            [[ $(declare -p $name 2>&1) = "declare -a"* ]] || continue
            eval "words=\\${$name[*]@Q}"; unset $name; declare $name="$words"
        done; env --null"""
    done = subprocess.run(
        ["bash", "-c", program, "bash", str(folder), str(path)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise InputError(f"{path}: bash cannot read it: {done.stderr.strip().splitlines()[-1]}")
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)


class Setting(NamedTuple):
    """A line of a declaration (jobs/settings.sh)."""

    needed: bool
    default: str
    meaning: str


def declared(path: Path) -> dict[str, Setting]:
    """The settings that a script, lib.sh or a site file declares, by name."""
    blocks = re.findall(r"^(?:SETTINGS=|settings )'\n(.*?)^'", path.read_text(), re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(\w+)(!?)=?(\S*) *(.*?) *$", "".join(blocks), re.MULTILINE)
    return {name: Setting(needed == "!", default, meaning) for name, needed, default, meaning in lines}


def check_settings(request: Request, site: dict[str, str]) -> list[str]:
    """The names of all settings that the job reads.

    Raises InputError for a given setting that nothing reads or that is empty though all that read it have a default,
    and for a needed setting that nobody gives.
    """
    folder = request.script.parent
    for name in _SHARED:
        if not (folder / name).is_file():
            raise InputError(
                f"{request.script}: {name} is not beside it; allowed: a script in jobs/, or in a copy of all"
            )
    own, shared = declared(request.script), declared(folder / "lib.sh")
    may_be_empty = {name for name, setting in (own | shared).items() if not setting.default}
    if request.site:
        shared |= declared(folder / "sites" / f"{request.site}.env")
    known = own | shared
    for name, value in request.settings.items():
        if name not in known and not name.startswith(_TOOLS):
            raise InputError(
                f"{name}: {request.script} does not read it; it reads {', '.join(sorted(own))}; allowed in every job: "
                f"{', '.join(sorted(shared))}, and what begins with {', '.join(_TOOLS)}"
            )
        if not value and name not in may_be_empty and name in known and (default := known[name].default):
            raise InputError(f"{name} is empty; allowed: a value; without it, {default}")
    for name, (needed, _, meaning) in own.items():
        if needed and not (request.settings.get(name) or site.get(name) or os.environ.get(name)):
            raise InputError(f"{name} is not set: {meaning}; say {name}=... behind {request.script}")
    return sorted(known)


def check_train(settings: dict[str, str]) -> None:
    """Raises InputError where `hpcauxvae train` does not take its options: the job would say so after the queue."""
    aux, options = settings.get("AUX", "AUX"), settings.get("TRAIN_OPTIONS", "")
    from hpcauxvae.runtime.command_line import parse as parsed
    from hpcauxvae.train.config import TrainConfig

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed(TrainConfig, ["DATA", "--aux", aux, *options.split()], "hpcauxvae train")
    except SystemExit as end:
        if end.code:
            lines = (line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines())
            why = next((line for line in lines if line.startswith(("Unrecognized options:", "Error parsing"))), "")
            raise InputError(f"TRAIN_OPTIONS={options}: {why or 'not taken'}; allowed: hpcauxvae train --help") from end
    except InputError as error:
        raise InputError(f"TRAIN_OPTIONS={options}: {error}") from error


def as_written(words: Sequence[str]) -> list[str]:
    """The words of a command line, each option together with its value: ["-l", "select=2"] -> ["-l select=2"]."""
    options: list[str] = []
    for word in words:
        if word.startswith("-") or not options:
            options.append(word)
        else:
            options[-1] += f" {word}"
    return options


def _subject(option: str) -> str:
    """What an option is about: --time of --time=10, --time 10 and -t10, "-l select" of -l select=2."""
    match = re.match(r"-l [a-z]+|--[a-z-]+|-[A-Za-z]", option)
    return _LONG.get(match[0], match[0]) if match else option


def describe(submission: Submission) -> str:
    """What will be submitted, for a reader."""
    lines = [f"script    {submission.script}", f"to        {_NAMES[submission.scheduler]}"]
    if submission.scheduler != "none":
        options = as_written(submission.options)
        lines.append("asks for")
        for directive in submission.directives:
            by = next((o for o in reversed(options) if _subject(o) == _subject(directive)), None)
            lines.append(f"    {directive}" + (f"   replaced by {by}" if by not in (None, directive) else ""))
        new = {_subject(directive) for directive in submission.directives}
        for place, option in enumerate(options):
            if _subject(option) not in new:
                by = next((o for o in options[place + 1 :] if _subject(o) == _subject(option)), None)
                lines.append(f"    {option}" + f"   replaced by {by}" * (by is not None))
    lines += ["settings", *(f"    {name}={value}" for name, value in submission.settings.items())]
    # NAME='a value', not 'NAME=a value': a shell takes the first for a setting, and the second for a program.
    settings = "".join(f"{name}={shlex.quote(value)} " for name, value in submission.settings.items())
    return "\n".join([*lines, f"command   {settings}{shlex.join(submission.command)}"])


class NoAnswer(InputError):
    """Slurm is not there."""


def check_with_slurm(submission: Submission) -> str:
    """What Slurm says to the job without taking it. Raises InputError where it would refuse it, or is not there."""
    command = ["sbatch", "--test-only", "--export=ALL", *submission.options, submission.command[-1]]
    env = {**os.environ, **submission.settings}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"no answer from Slurm in {_SECONDS:g} s; try again later") from error
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if done.returncode != 0 and re.search(_NO_ANSWER, " ".join(said)):
        raise NoAnswer(f"no answer from Slurm: {' '.join(said)}")
    if done.returncode != 0:
        raise InputError(f"Slurm would refuse the job: {' '.join(said)}")
    return said[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """The command `hpcauxvae submit`. Exit code 0, that of sbatch or qsub, or 2 with one line on stderr."""
    request = parse(sys.argv[1:] if argv is None else argv)
    submission = prepare(request)
    if (data := request.settings.get("DATA")) and not Path(data).exists():
        print(f"warning: DATA={data}: no such file here", file=sys.stderr)
    print(describe(submission), file=sys.stderr)
    if submission.scheduler == "slurm" and shutil.which("sbatch"):
        try:
            print(f"checked   {check_with_slurm(submission)}", file=sys.stderr)
        except NoAnswer as error:
            if not request.dry_run:
                raise
            print(f"not checked: {error}", file=sys.stderr)
    if request.dry_run:
        return 0
    program = submission.command[0]
    if shutil.which(program) is None:
        raise InputError(f"there is no {program} here; submit from a login node of the cluster")
    sys.stderr.flush()
    return subprocess.run(submission.command, env={**os.environ, **submission.settings}).returncode

"""The command `hpcauxvae`, and what all commands have in common when they fail. Imports nothing heavy by itself."""

import ctypes
import importlib
import io
import json
import os
import select
import shlex
import sys
from collections.abc import Callable
from typing import NoReturn

from hpcauxvae import __version__
from hpcauxvae.runtime.files import file_fault
from hpcauxvae.runtime.memory import advise_on, memory_fault
from hpcauxvae.types import InputError

COMMANDS = {
    "simulate": ("hpcauxvae.simulate.command", "draw galaxies with GalSim into a labelled HDF5 file"),
    "data": (
        "hpcauxvae.data.command",
        "import images and labels into the format, check a set, or make Cars3D or dSprites",
    ),
    "train": ("hpcauxvae.train.command", "train a model on labelled images"),
    "watch": ("hpcauxvae.watch.command", "follow a training that runs, here or on another machine, or several"),
    "search": ("hpo.search", "search for hyperparameters, asynchronously"),
    "encode": ("hpcauxvae.evaluate.command:encode", "codes and image scores of a whole data set"),
    "predict": ("hpcauxvae.evaluate.command:predict", "the measured quantities of new images, with intervals"),
    "evaluate": ("hpcauxvae.report.command:evaluate", "score a run, draw its pictures, and make a page of both"),
    "compare": ("hpcauxvae.evaluate.command:compare", "scores of several runs side by side on the same images"),
    "report": ("hpcauxvae.report.command:report", "one page of a run, or of several side by side, without a network"),
    "generate": ("hpcauxvae.evaluate.command:generate", "draw images for given factors from a trained model"),
    "audit": ("hpcauxvae.audit.command", "whether a measurement adds independent variation to the images"),
    "export": ("hpcauxvae.evaluate.command:export", "a trained model as one file to share, or as ONNX"),
    "sensitivity": ("hpcauxvae.evaluate.command:sensitivity", "Sobol indices of pixel statistics over the factors"),
    "paper": ("hpcauxvae.paper.command", "tables and figures of the paper from evaluated runs"),
    "submit": ("hpcauxvae.cluster.submit", "a job script into the queue of a cluster"),
    "preflight": (
        "hpcauxvae.cluster.command",
        "what would fail in hours, found in seconds, on every rank of a job",
    ),
    "doctor": ("hpcauxvae.cluster.doctor", "what works on this machine, and what mends the rest"),
}
"""MODULE:FUNCTION of (arguments) that returns the exit code, main if no function is named; and what it does."""


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    Bad input (InputError), a file that cannot be read or written, a full disk and memory that is not there are a line
    on standard error, from a single process, and exit code 2; Ctrl-C is exit code 130, and an output that nobody reads
    any more, as behind `| head`, is 141. All else is a defect or a failure, and raised.
    """
    _keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a unit that the terminal's encoding does not have
    try:
        code = main()
        sys.stdout.flush()
    except InputError as error:
        if not error.reported:
            print(f"error: {memory_fault(error) or error}", file=sys.stderr)
        code = 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(141)
        fault = memory_fault(error) or file_fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        code = 2
    except (MemoryError, RuntimeError) as error:
        fault = memory_fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _keep_freed_memory() -> None:
    """Asks glibc to give only blocks of 256 MiB, and free memory beyond that, back to the system.

    By itself it gives back what a training step frees and the next one takes again, tens of MB in each layer, and every
    page of it is a fault: on a CPU a quarter of the time of a step with 64 x 64 pictures. Other C libraries, and what
    the user has set, are left as they are.
    """
    trim, mmap = -1, -3  # glibc's numbers of these settings, mallopt(3)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        return
    # An older glibc takes 32 MiB at most. Once any setting is made, glibc no longer adapts the other by itself.
    if mallopt(mmap, 256 << 20) or mallopt(mmap, 32 << 20):
        mallopt(trim, 256 << 20)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that has lost its reader; what waits to be written to it is then dropped."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def main(*command: str) -> NoReturn:
    """The console script; with the name of a command, that command: what `python -m hpcauxvae.train` calls."""
    run(lambda: _dispatch([*command, *sys.argv[1:]]))


def _each(commands: list[list[str]]) -> int:
    """`python -m hpcauxvae -`: several commands, a JSON list from standard input, in one process, which starts once;
    `hpcauxvae paper` starts its runs so.

    Ends at the first that does not return 0, with its exit code.
    """
    for command in commands:
        print(f"$ hpcauxvae {shlex.join(command)}", flush=True)
        if code := _dispatch(command):
            return code
        sys.stdout.flush()
    return 0


def _dispatch(arguments: list[str]) -> int:
    usage = "usage: hpcauxvae COMMAND ...; each COMMAND has --help\n"
    usage += "\n".join(f"  {name:12}{text}" for name, (_, text) in COMMANDS.items())
    match arguments:
        case [name, *rest] if name in COMMANDS:
            advise_on(name)
            module, _, function = COMMANDS[name][0].partition(":")
            return getattr(importlib.import_module(module), function or "main")(rest)
        case ["-"]:
            return _each(json.load(sys.stdin))
        case ["-h" | "--help", *_]:
            print(usage)
            return 0
        case ["--version", *_]:
            print(f"hpcauxvae {__version__}")
            return 0
    given = f"command {arguments[0]!r} is unknown" if arguments else "no command is given"
    print(f"error: {given}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2

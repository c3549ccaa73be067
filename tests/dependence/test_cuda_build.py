"""What nvcc makes of the kernels, where there is an nvcc; what the build does with HPCAUXVAE_CUDA."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.dependence import moments

pytestmark = pytest.mark.native


def registers_script():
    spec = importlib.util.spec_from_file_location("registers", ROOT / "benchmarks" / "registers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nvcc_compiles_without_many_spills() -> None:
    script = registers_script()
    nvcc = script.find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc on the PATH, in CUDA_HOME or in /usr/local/cuda")
    kernels = list(script.compiled(nvcc, 80, (3,)))
    names = {(kernel.name, kernel.variances) for kernel in kernels}
    assert names == {("finalize", None), *((name, v) for name in ("statistics", "gradient") for v in (False, True))}
    for kernel in kernels:
        assert kernel.registers <= 168, kernel  # three blocks of 128 threads then fit into a multiprocessor
        assert kernel.spilled_bytes <= 64, kernel


def test_a_wrong_setting_is_one_line() -> None:
    command = [sys.executable, "setup.py", "build_ext", "--build-temp", "build/none", "--build-lib", "build/none"]
    env = os.environ | {"HPCAUXVAE_CUDA": "yes"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "error: HPCAUXVAE_CUDA is 'yes'; allowed: AUTO, ON, OFF" in done.stderr


@pytest.mark.parametrize(("setting", "code"), [("AUTO", 0), ("ON", 1)])
def test_an_nvcc_that_compiles_nothing(tmp_path: Path, setting: str, code: int) -> None:
    """AUTO warns and goes on without CUDA; ON is an error."""
    pytest.importorskip("cmake")
    pybind11, cmake = pytest.importorskip("pybind11"), Path(sys.executable).parent / "cmake"
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    command = [cmake, "-S", ROOT, "-B", tmp_path / "build", f"-DHPCAUXVAE_NVCC={nvcc}", f"-DHPCAUXVAE_CUDA={setting}"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    said = " ".join(done.stderr.split())
    assert (
        "compiles nothing here: building without CUDA" if setting == "AUTO" else "HPCAUXVAE_CUDA=ON, but nvcc"
    ) in said


def test_the_module_loads_without_a_driver() -> None:
    if moments.core is None or not moments.core.cuda_compiled:
        pytest.skip("the kernel is compiled without CUDA")
    assert moments.core.cuda_device_count() >= 0

"""Builds the test programs in C++: the CUDA kernels on CPU threads (tests/native/cuda_on_host.h), as a module for
Python and, beside the CPU passes, as a program under sanitizers. They lie in build/tests, by a hash of the sources."""

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from helpers.places import ROOT

CSRC = ROOT / "csrc"
NATIVE = ROOT / "tests" / "native"
BUILD = ROOT / "build" / "tests"
PASSES = [
    CSRC / name for name in ("moments_cpu.cpp", "moments_simd.cpp", "moments_cuda.cu", "moments_cuda_gradient.cu")
]
# The kernels are written for nvcc, whose pragmas g++ does not know.
FLAGS = ["-std=c++20", "-O1", "-g1", "-fPIC", f"-I{CSRC}", f"-I{NATIVE}"]
FLAGS += ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-pragmas"]
DEFINITIONS = ["-DHPCAUXVAE_CUDA_ON_HOST", "-DHPCAUXVAE_CUDA=1", "-DHPCAUXVAE_VARIANT=baseline"]


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr}"
    assert "warning" not in done.stderr, done.stderr


def build(name: str, sources: list[Path], flags: list[str], link: list[str]) -> Path:
    """A file of this name in a folder of build/tests, compiled with these flags beside FLAGS, once."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on the PATH")
    digest = hashlib.sha256(repr([name, flags, link]).encode())
    for path in sorted({*CSRC.iterdir(), *NATIVE.iterdir(), *sources, Path(__file__)}):
        digest.update(path.read_bytes())
    folder = BUILD / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            objects = [folder / f"{source.stem}.o" for source in sources]
            compile_one = [compiler, *FLAGS, *DEFINITIONS, *flags, "-x", "c++", "-c"]
            with ThreadPoolExecutor(2) as pool:
                list(
                    pool.map(
                        lambda pair: _run(*compile_one, pair[0], "-o", pair[1]), zip(sources, objects, strict=True)
                    )
                )
            _run(compiler, *link, *objects, "-pthread", "-o", folder / "part")
            (folder / "part").rename(folder / name)
    return folder / name


@cache
def cuda_on_host() -> ModuleType:
    """The compiled module with the CUDA kernels on CPU threads: it takes tensors of the CPU for those of a GPU."""
    pybind11 = pytest.importorskip("pybind11")
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}", "-fvisibility=hidden"]
    path = build(
        f"_core{sysconfig.get_config_var('EXT_SUFFIX')}", [CSRC / "bindings.cpp", *PASSES], includes, ["-shared"]
    )
    spec = importlib.util.spec_from_file_location("_core", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sanitized(kind: str) -> Path:
    """tests/native/passes.cpp under -fsanitize=KIND."""
    flags = ["-O0", f"-fsanitize={kind}", "-fno-sanitize-recover=all"]
    return build(f"passes-{kind}", [NATIVE / "passes.cpp", *PASSES], flags, flags)

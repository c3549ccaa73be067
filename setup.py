"""Builds the compiled module hpcauxvae.dependence._core with CMake. All else about the package is in pyproject.toml.

Without a C++ compiler the package installs without the module, and the torch reference serves. The environment variable
HPCAUXVAE_CUDA is AUTO (the default: for GPUs too where nvcc works), ON (an error where it does not) or OFF.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Hands each extension to CMake and Ninja."""

    def build_extension(self, ext: Extension) -> None:
        compilers = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
        if not any(shutil.which(compiler) for compiler in compilers):
            print(f"warning: no C++ compiler ({', '.join(compilers)}): building without {ext.name}", file=sys.stderr)
            return
        env = os.environ | {"PATH": os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])}
        cuda = os.environ.get("HPCAUXVAE_CUDA", "AUTO")
        if cuda not in ("AUTO", "ON", "OFF"):
            raise SystemExit(f"error: HPCAUXVAE_CUDA is {cuda!r}; allowed: AUTO, ON, OFF")
        try:
            self.build_with(ext, cuda, env)
        except subprocess.CalledProcessError:
            if cuda != "AUTO":
                raise
            print("warning: the build with CUDA failed; building without it", file=sys.stderr)
            self.build_with(ext, "OFF", env)

    def build_with(self, ext: Extension, cuda: str, env: dict[str, str]) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        configure = [
            "cmake",
            "--fresh",  # pip's build environment, whose paths an earlier cache has, is gone
            *("-S", str(HERE), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_INSTALL_PREFIX={target}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DHPCAUXVAE_CUDA={cuda}",
        ]
        subprocess.run(configure, check=True, env=env)
        subprocess.run(["cmake", "--build", str(build), "--target", "install"], check=True, env=env)

    def get_outputs(self) -> list[str]:
        """What was built, for the installer: nothing without a compiler."""
        return [path for path in super().get_outputs() if Path(path).exists()]


# optional: setuptools then accepts that the file is missing; a build that fails is an error all the same.
# depends: what a source distribution carries.
SOURCES = ["CMakeLists.txt", *(f"csrc/{path.name}" for path in sorted((HERE / "csrc").iterdir()))]
CORE = Extension("hpcauxvae.dependence._core", sources=[], depends=SOURCES, optional=True)
setup(ext_modules=[CORE], cmdclass={"build_ext": CMakeBuild})

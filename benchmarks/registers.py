"""Registers, stack and spills of every CUDA kernel, as nvcc reports them.

python benchmarks/registers.py [--arch 80 --arch 90] [--degree 3]
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CSRC = Path(__file__).resolve().parents[1] / "csrc"
SOURCES = ("moments_cuda.cu", "moments_cuda_gradient.cu")
DEGREES = (1, 2, 3, 4, 5, 6)


class Kernel(NamedTuple):
    name: str
    degree: int
    variances: bool | None
    registers: int
    stack_bytes: int
    spilled_bytes: int


def find_nvcc() -> str | None:
    """On the PATH, in CUDA_HOME or in the usual place."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    return shutil.which("nvcc") or next((path for home in homes if (path := shutil.which(f"{home}/bin/nvcc"))), None)


def compiled(nvcc: str, arch: int, degrees: tuple[int, ...]) -> Iterator[Kernel]:
    """Every kernel of these degrees for sm_ARCH. Raises CalledProcessError where nvcc fails."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "csrc"
        shutil.copytree(CSRC, copy)
        shared = copy / "moments_math.h"  # where the degrees are listed that are compiled
        left_out = "".join(str(degree) for degree in DEGREES if degree not in degrees)
        if left_out:
            shared.write_text(re.sub(rf".*case [{left_out}]: return call.*\n", "", shared.read_text()))
        for source in SOURCES:
            command = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{arch}", "-Xptxas=-v", "-c", str(copy / source)]
            command += ["-o", f"{folder}/object.o"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            yield from reported(done.stderr)


def reported(text: str) -> Iterator[Kernel]:
    """The entry functions in what `ptxas -v` said; the functions that they call have no registers of their own."""
    kernel = r"Compiling entry function '\S*?\d+(statistics|finalize|gradient)_kernelILi(\d)E(?:Lb(\d)E)?\S*'.*?"
    frame = r"(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers"
    for name, degree, variances, stack, spilled, registers in re.findall(kernel + frame, text, re.DOTALL):
        spread = bool(int(variances)) if variances else None
        yield Kernel(name, int(degree), spread, int(registers), int(stack), int(spilled))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, action="append")
    parser.add_argument("--degree", type=int, action="append", choices=DEGREES)
    arguments = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit("error: no nvcc on the PATH, in CUDA_HOME or in /usr/local/cuda")
    print("| GPU | kernel | K | variances | registers | stack, bytes | spilled, bytes |\n|---|---|---|---|---|---|---|")
    for arch in arguments.arch or (80, 90):
        for kernel in sorted(compiled(nvcc, arch, tuple(arguments.degree or DEGREES)), key=lambda kernel: kernel[:2]):
            variances = {True: "yes", False: "no", None: ""}[kernel.variances]
            print(f"| sm_{arch} | {kernel.name} | {kernel.degree} | {variances} | {kernel.registers} "
                  f"| {kernel.stack_bytes} | {kernel.spilled_bytes} |")  # fmt: skip


if __name__ == "__main__":
    main()

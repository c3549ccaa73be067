"""Each variant of the CPU kernel: over the list of cases where this machine can run it, and compiled for ARM."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import moments_cases as cases
from helpers.places import ROOT
from helpers.regularizers import assert_matches, compiled
from hpcauxvae.dependence import moments

ALL = ("x86_64_v4", "x86_64_v3", "baseline")
CSRC = ROOT / "csrc"
ARM = "aarch64-linux-gnu-g++"


@pytest.fixture(params=ALL)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    if moments.core is None:
        pytest.skip("the kernel is not compiled")
    if request.param not in moments.core.instruction_sets:
        pytest.skip(f"this processor has no {request.param}")
    moments.core.use_instruction_set(request.param)
    yield request.param
    moments.core.use_instruction_set(moments.core.instruction_set)


def test_every_variant_on_every_case(instruction_set: str) -> None:
    for case in cases.CASES:
        assert_matches(compiled, case)


@pytest.mark.skipif(moments.core is None, reason="the kernel is not compiled")
def test_the_best_one_serves() -> None:
    assert moments.core.instruction_set == moments.core.instruction_sets[0]
    with pytest.raises(ValueError, match="instruction set is z80; allowed: baseline"):
        moments.core.use_instruction_set("z80")


@pytest.mark.skipif(shutil.which(ARM) is None, reason=f"{ARM} is not installed")
@pytest.mark.native
@pytest.mark.parametrize("source", [pytest.param("moments_cpu.cpp", marks=pytest.mark.smoke), "moments_simd.cpp"])
def test_compiles_for_arm(tmp_path: Path, source: str) -> None:
    command = [ARM, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", "-DHPCAUXVAE_VARIANT=baseline"]
    subprocess.run([*command, "-c", str(CSRC / source), "-o", str(tmp_path / "out.o")], check=True, timeout=250)

"""Freed memory is taken up again without page faults."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import torch
from hpcauxvae.cli import run

def main():
    faults = []
    for _ in range(32):  # the first few grow the heap, until one that is freed fits the next
        torch.ones(1 << 24)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(faults[-1] - faults[15])
    return 0

run(main)
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_a_tensor_takes_up_what_the_one_before_it_left_unless_the_user_has_set_otherwise():
    given_back = _faults(MALLOC_MMAP_THRESHOLD_="1048576")
    assert 5 * _faults() < given_back


def _faults(**env: str) -> int:
    """Of 16 tensors of 64 MiB, beyond what glibc keeps by itself, one after the other, in a command of the package."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=own | env, capture_output=True, text=True, check=True)
    return int(done.stdout)

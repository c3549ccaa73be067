"""The CUDA kernels, on CPU threads, and the CPU passes under ThreadSanitizer, AddressSanitizer and UBSan: clean, and
each sanitizer catches a fault planted for it."""

import os
import subprocess

import pytest

from helpers.native_build import sanitized

pytestmark = [pytest.mark.native, pytest.mark.slow]


def run(kind: str, *fault: str) -> tuple[int, str]:
    """Exit code and all that the program and the sanitizer say. ThreadSanitizer wants addresses that are not random."""
    command = ["setarch", "-R", str(sanitized(kind)), *fault]
    env = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["thread", "address,undefined"])
def test_clean(kind: str) -> None:
    code, said = run(kind)
    assert code == 0, said
    assert said.count("agree") == 5
    assert "Sanitizer" not in said and "runtime error" not in said


def test_a_missing_barrier_is_caught() -> None:
    code, said = run("thread", "barrier")
    assert code != 0
    assert "WARNING: ThreadSanitizer: data race" in said


def test_a_store_out_of_bounds_is_caught() -> None:
    code, said = run("address,undefined", "store")
    assert code != 0
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in said and "WRITE of size 8" in said

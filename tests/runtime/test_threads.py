"""What training says of its threads."""

from pathlib import Path

import pytest
import torch

from helpers.trainings import alone, blobs, config
from hpcauxvae.runtime.threads import crowded


@pytest.mark.parametrize(
    ("threads", "cores", "load", "told"),
    [(2, 2, 0.1, False), (2, 2, 1.0, True), (1, 2, 5.0, False), (8, 64, 40.0, False), (32, 64, 40.0, True)],
)
def test_threads_that_find_no_core_are_named(threads: int, cores: int, load: float, told: bool) -> None:
    said = crowded(threads, cores, load)
    assert bool(said) == told
    assert not told or f"{cores} cores and was busy in the last minute (load {load:.1f}): {threads} threads" in said


def test_training_says_them_and_that_the_machine_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = blobs(tmp_path / "blobs.h5"), torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert alone(config(path, tmp_path / f"run{number}", network="mlp", epochs=1)) == 0
            told, errors = capsys.readouterr()
            assert f"on CPUs: 1 process of {number} thread{'s' * (number > 1)}\n" in told
            assert ("start it with OMP_NUM_THREADS=1" in errors) == (number > 1)
    finally:
        torch.set_num_threads(before)

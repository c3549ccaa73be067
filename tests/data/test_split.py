"""The split against its published generator, and against labels that a user draws with the same seed."""

import numpy as np
import pytest

from hpcauxvae.data.hdf5 import split
from hpcauxvae.types import InputError


def pcg64(seed: int, n: int) -> list[int]:
    """PCG XSL RR 128/64 (O'Neill 2014) from numpy's seeding, in plain integers."""
    start = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(7, 2, 1))).state["state"]
    state, increment, draws = start["state"], start["inc"], []
    for _ in range(n):
        state = (state * 0x2360ED051FC65DA44385DF649FCCF645 + increment) % 2**128
        word, turn = (state >> 64) ^ (state % 2**64), state >> 122
        draws.append((word >> turn | word << (64 - turn)) % 2**64)
    return draws


@pytest.mark.parametrize(("n", "sizes"), [(10, (7, 2, 1)), (16384, (11470, 3276, 1638)), (19, (15, 3, 1))])
def test_split(n: int, sizes: tuple[int, int, int]) -> None:
    parts = split(n, seed=5)
    assert tuple(map(len, parts)) == sizes
    draws = pcg64(5, n)
    assert np.concatenate(parts).tolist() == sorted(range(n), key=draws.__getitem__)


@pytest.mark.parametrize("seed", [0, 7])
def test_split_does_not_follow_labels_drawn_with_the_same_seed(seed: int) -> None:
    """Labels as a user draws them: their mean over each part is that of all, within four standard errors."""
    for labels in (np.random.default_rng(seed).random(2000), np.random.RandomState(seed).rand(2000)):
        for part in split(2000, seed):
            assert abs(labels[part].mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(part))


def test_split_seeds_and_shares() -> None:
    assert not np.array_equal(split(1000, 0)[0], split(1000, 1)[0])
    assert [len(part) for part in split(1000, 0)] == [700, 200, 100]
    with pytest.raises(
        InputError, match=r"9 samples split \(7, 2, 1\) leave a part empty \(8, 1, 0\); allowed: 10 or more samples"
    ):
        split(9, 0)

"""Splits by groups, blocks and the file's own parts: what belongs together stays together, in fair shares."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import ImageSet, open_set, split, write
from hpcauxvae.data.splits import described, parts, resolved
from hpcauxvae.types import Factor, Fold, InputError

N = 600


def made(path: Path, **more: Any) -> ImageSet:
    rng = np.random.default_rng(2)
    images, values = rng.normal(size=(N, 1, 3, 3)), rng.random((N, 1))
    write(path, images, values, [Factor("a", "", 0, 1)], {}, **more)
    return open_set(path)


def assert_parts(found: tuple[np.ndarray, ...]) -> None:
    """Every sample is in one of them."""
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(N))


@pytest.mark.parametrize("names", [False, True])
def test_groups_stay_together(tmp_path: Path, names: bool) -> None:
    """Of 1 to 9 samples, anywhere in the file."""
    rng = np.random.default_rng(4)
    group = rng.permutation(np.repeat(np.arange(N), rng.integers(1, 10, N))[:N])
    data = made(tmp_path / "set.h5", group=[f"object {n}" for n in group] if names else group)
    for seed in range(5):
        found = parts(data, seed)
        assert_parts(found)
        own = [set(group[part]) for part in found]
        assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])
        np.testing.assert_allclose([len(part) / N for part in found], [0.7, 0.2, 0.1], atol=0.02)
    assert not np.array_equal(np.sort(parts(data, 0)[2]), np.sort(parts(data, 1)[2]))
    assert any(np.diff(parts(data, 0)[0]) < 0), "in random order within a part"


def test_blocks_are_of_neighbours(tmp_path: Path) -> None:
    data = made(tmp_path / "set.h5")
    for seed in range(3):
        found = parts(data, seed, "blocks")
        assert_parts(found)
        assert [len(part) for part in found] == [420, 120, 60]
        for part in found:
            starts = np.sort(part)[np.diff(np.sort(part), prepend=-9) > 1]
            assert (starts % 30 == 0).all(), "each run of neighbours begins with a block"


def test_the_files_own_parts(tmp_path: Path) -> None:
    own = np.array(["train", "validation", "test"])[np.random.default_rng(0).integers(0, 3, N)]
    data = made(tmp_path / "set.h5", split=own, group=np.arange(N) // 2)
    found = parts(data, 7)
    for name, part in zip(("train", "validation", "test"), found, strict=True):
        np.testing.assert_array_equal(np.sort(part), np.flatnonzero(own == name))
    torn = sum(own[n] != own[n + 1] for n in range(0, N, 2))
    told = described(data, 7)
    assert told.startswith("split as the file says: ")
    assert told.endswith(f" ({torn} of the file's 300 groups are torn apart: scores reward what was learned by heart)")


def test_random_is_the_split_of_version_1(tmp_path: Path) -> None:
    data = made(tmp_path / "set.h5")
    for by in ("auto", "random"):
        for one, other in zip(parts(data, 3, by), split(N, 3), strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_auto_comes_to_and_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    grouped = made(tmp_path / "grouped.h5", group=np.arange(N) // 6)
    assert resolved(grouped, "auto") == "group" and resolved(made(tmp_path / "plain.h5"), "auto") == "random"
    line = "split by 100 groups, each in one part (seed 0): 420 training, 120 validation, 60 test samples"
    assert described(grouped, 0) == line
    assert described(grouped, 1, "blocks").startswith("split by 20 blocks of neighbours (seed 1): 420 training")
    torn = sum(len({number for number, part in enumerate(split(N, 0)) if n in part // 6}) > 1 for n in range(100))
    assert f"samples ({torn} of the file's 100 groups are torn apart: " in described(grouped, 0, "random")
    assert "torn apart" not in described(made(tmp_path / "own.h5", group=np.arange(N)), 0, "random")
    assert main(["check", str(grouped.path)]) == 0
    assert f"  {line}\n" in capfd.readouterr().out


def test_what_cannot_be_split(tmp_path: Path) -> None:
    data = made(tmp_path / "set.h5", group=np.minimum(np.arange(N), 1))
    with pytest.raises(
        InputError, match=r"set\.h5: --split group \(seed 0\) leaves no \w+ samples; allowed: more group"
    ):
        parts(data, 0)
    with pytest.raises(InputError, match="--split given: the file has no data set split; allowed: random, blocks"):
        parts(data, 0, "given")
    with h5py.File(data.path, "r+") as file:
        file["split"] = ["train"] * 500 + ["test"] * 100
    with pytest.raises(InputError, match="leaves no validation samples; allowed: samples of each part"):
        parts(open_set(data.path), 0)


@pytest.mark.parametrize(
    ("by", "folds"),
    [("random", 2), ("random", 7), ("random", 300), ("group", 5), ("group", 90), ("blocks", 3), ("blocks", 20)],
)
def test_folds_test_each_sample_once(tmp_path: Path, by: Any, folds: int) -> None:
    """The others of a fold are 7 : 2, and no group or block is torn apart."""
    rng = np.random.default_rng(5)
    group = rng.permutation(np.repeat(np.arange(N), rng.integers(1, 10, N))[:N])
    data = made(tmp_path / "set.h5", group=group)
    together = {"random": np.arange(N), "group": group, "blocks": np.arange(N) // 30}[by]
    tested = []
    for number in range(min(folds, 20)):
        found = parts(data, 3, by, Fold(number, folds))
        assert_parts(found)
        own = [set(together[part]) for part in found]
        assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])
        largest = np.bincount(together).max()
        assert abs(len(found[2]) - N / folds) <= largest
        assert abs(len(found[1]) - (N - len(found[2])) * 2 / 9) <= largest
        tested.append(found[2])
    counted = np.bincount(np.concatenate(tested), minlength=N)
    assert counted.max() == 1 and (folds > 20 or counted.min() == 1)
    assert not np.array_equal(np.sort(tested[0]), np.sort(parts(data, 4, by, Fold(0, folds))[2]))
    if by == "random":
        assert any(np.diff(found[0]) < 0), "in random order within a part"


def test_what_cannot_be_folded(tmp_path: Path) -> None:
    data = made(tmp_path / "set.h5", group=np.arange(N) % 5)
    assert [len(part) for part in parts(data, 0, "auto", Fold(4, 5))] == [360, 120, 120]
    with pytest.raises(InputError, match=r"set\.h5: folds = 6 for 5 groups; allowed: 2 or more, with 2 or more"):
        parts(data, 0, "auto", Fold(0, 6))
    with pytest.raises(
        InputError, match=r"folds = 301 for 600 samples; .* each to test, and 2 samples or more besides"
    ):
        parts(data, 0, "random", Fold(0, 301))  # one of them would test a single sample
    with pytest.raises(InputError, match="folds = 21 for 20 blocks"):
        parts(data, 0, "blocks", Fold(0, 21))
    three = made(tmp_path / "three.h5", group=np.arange(N) % 3)
    with pytest.raises(InputError, match="folds = 2 for 3 groups"):
        parts(three, 0, "auto", Fold(1, 2))  # one of its folds leaves a single group
    assert len(parts(three, 0, "auto", Fold(1, 3))[1]) == 200
    own = made(tmp_path / "own.h5", split=np.array(["train", "validation", "test"])[np.arange(N) % 3])
    with pytest.raises(InputError, match=r"folds = 3 with the parts of the file .*; allowed: --split random"):
        parts(own, 0, "auto", Fold(0, 3))
    assert described(data, 0, "auto", Fold(1, 5)).startswith(
        "split by 5 groups, each in one part (seed 0), fold 1 of 5"
    )

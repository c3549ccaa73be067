"""Images that are there more than once are counted as a plain loop counts them, in any layout and in pieces."""

from pathlib import Path

import numpy as np
import pytest

from helpers.set_files import rewrite_images
from hpcauxvae.data import stored
from hpcauxvae.data.copies import about_copies, digests, digests_of
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.types import Factor


def a_set(path: Path, order: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(order.max() + 1, 2, 4, 5)).astype(np.float32)
    write(path, distinct[order], rng.uniform(size=(len(order), 1)), [Factor("a", "", 0, 1)], {})


def test_each_image_ten_times(tmp_path: Path) -> None:
    order = np.repeat(np.arange(60), 10)
    a_set(tmp_path / "ten.h5", order)
    train, validation, test = split(600, 3)
    trained = {order[i] for i in train}
    shared = [sum(order[i] in trained for i in part) for part in (validation, test)]
    assert shared[1] == 60
    assert about_copies(digests(open_set(tmp_path / "ten.h5")), 3) == (
        f"images: 540 of 600 images are copies of others: sample 1 of 0; {shared[0]} of 120 validation images and "
        "60 of 60 test images are training images, too (split seed 3): their scores show what was learned by heart"
    )


def test_copies_within_training_are_told_without_the_parts(tmp_path: Path) -> None:
    train, _, _ = split(30, 0)
    order = np.arange(30)
    order[max(train[:2])] = order[min(train[:2])]
    order = np.unique(order, return_inverse=True)[1]
    a_set(tmp_path / "one.h5", order)
    told = f"images: 1 of 30 images are copies of others: sample {max(train[:2])} of {min(train[:2])}"
    assert about_copies(digests(open_set(tmp_path / "one.h5")), 0) == told


def test_no_copy_no_word(tmp_path: Path) -> None:
    a_set(tmp_path / "set.h5", np.arange(20))
    assert about_copies(digests(open_set(tmp_path / "set.h5")), 0) is None


def test_a_set_too_small_to_split() -> None:
    assert (
        about_copies(np.array([4, 5, 4], np.uint64), 0) == "images: 1 of 3 images are copies of others: sample 2 of 0"
    )


def test_pieces_and_layouts_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.h5"
    a_set(path, np.arange(20) % 15)
    data = open_set(path)
    expected = digests(data)
    np.testing.assert_array_equal(digests_of(np.asarray(data.images)), expected)
    assert expected[0] == expected[15] and len(set(expected.tolist())) == 15
    monkeypatch.setattr(stored, "_PIECE_BYTES", 4 * 2 * 4 * 5 * 3)  # three images
    marks: list[None] = []
    np.testing.assert_array_equal(digests(data, slice(4, 11), lambda: marks.append(None)), expected[4:11])
    assert len(marks) == 3
    rewrite_images(path, chunks=(3, 2, 4, 5), compression="gzip")
    np.testing.assert_array_equal(digests(open_set(path)), expected)

"""What is seen of each image, against plain loops, whatever part and layout is read."""

from pathlib import Path

import numpy as np
import pytest

from helpers.set_files import rewrite_images
from hpcauxvae.data import stored
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.pixels import beyond, look_at
from hpcauxvae.types import Factor


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_each_image(dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.poisson(50, (30, 2, 5, 5)).astype(dtype)
    images[9, 0, 3, 3] = 200
    images[7] = images[20]
    if dtype is np.float32:
        images[3, 1, 2, 2], images[4, 0, 0, 0] = 0.5, -1
    path = tmp_path / "set.h5"
    write(path, images, rng.uniform(size=(30, 1)), [Factor("a", "", 0, 1)], {})
    for chunks in (None, (4, 2, 5, 5)):
        if chunks:
            rewrite_images(path, chunks=chunks)
        data = open_set(path)
        found = look_at(data)
        assert found.low.tolist() == [float(image.min()) for image in images]
        assert found.high.tolist() == [float(image.max()) for image in images]
        assert np.flatnonzero(~found.whole).tolist() == ([3, 4] if dtype is np.float32 else [])
        assert len(set(found.digest.tolist())) == 29
        monkeypatch.setattr(stored, "_PIECE_BYTES", 3 * 2 * 5 * 5 * images.itemsize)
        parts = [look_at(data, slice(first, first + 7)) for first in range(0, 35, 7)]  # the last one is empty
        for all_at_once, *in_parts in zip(found, *parts, strict=True):
            np.testing.assert_array_equal(all_at_once, np.concatenate(in_parts))
        some = np.array([9, 4, 3])
        assert beyond(data, some, 1, 150) == ((images[some] < 1).sum(), (images[some] > 150).sum())

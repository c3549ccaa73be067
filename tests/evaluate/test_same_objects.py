"""A fresh set that is none: the objects of the training, seen with other noise."""

from pathlib import Path

import numpy as np

from helpers.trainings import FACTORS, blobs
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator
from hpcauxvae.evaluate.sets import same_objects


def test_labels_of_training_images_in_a_fresh_set_are_told(trained_run: Path, tmp_path: Path) -> None:
    """Not those of other objects, nor labels of a grid, which repeat."""
    again, other = blobs(tmp_path / "again.h5", noiseless=True), blobs(tmp_path / "other.h5", seed=1)
    told = "images: 112 of 160 fresh images have all labels of training images: their scores count what was learned"
    for path, expected in ((again, [f"{told} by heart"]), (other, [])):
        evaluator = Evaluator(EvaluateConfig(run=trained_run, fresh=path, device="cpu", control=False))
        assert evaluator.copies["fresh"] == expected
    data = open_set(other)
    grid = np.tile(data.values[:40], (4, 1))
    write(tmp_path / "grid.h5", np.array(data.images), grid, FACTORS, {})
    of_grid = open_set(tmp_path / "grid.h5")
    assert same_objects(of_grid, of_grid, split(len(of_grid), 0)) == []

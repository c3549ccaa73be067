"""What the parts of a split cannot judge of a class is named by the class."""

from pathlib import Path

import numpy as np

from hpcauxvae.data.guides import guides_of
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.splits import parts
from hpcauxvae.data.sufficient import doubts
from hpcauxvae.evaluate.by_factor import as_a_whole, by_factor
from hpcauxvae.types import Factor

N = 220


def test_a_class_without_a_test_image_is_named(tmp_path: Path) -> None:
    values = (np.arange(N) % 3.0)[:, None]
    write(tmp_path / "set.h5", np.ones((N, 1, 4, 4)), values, [Factor("shape", "", 0, 3, "categorical")], {})
    data = open_set(tmp_path / "set.h5")
    train, validation, test = parts(data, 0)
    data.values[train[:1], 0] = 3
    data.values[test[data.values[test, 0] == 1], 0] = 2
    guides = guides_of(data, ["shape"], "kinds")
    assert list(doubts(data, guides[0], (train, validation, test))) == [
        "shape: no validation sample is of class 3: no score can say there whether it is told",
        "shape: no test sample is of class 1, 3: no score can say there whether it is told",
    ]
    columns_ND = guides[0].code(data.values[test, 0])
    found = by_factor(guides, columns_ND, {"latents": columns_ND, "regressor": columns_ND})
    assert list(as_a_whole({"factors": found})) == [
        "no image here is of class 1, 3 of shape: no score tells whether these are read, or steer"
    ]

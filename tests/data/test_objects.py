"""Objects seen from all sides are told from classes of many things, by made sets of both."""

from pathlib import Path

import numpy as np

from hpcauxvae.data.command import advise
from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.data.objects import Objects, objects_in
from hpcauxvae.types import Factor

RNG_SEED, N = 3, 480
KIND = {"azimuth": "periodic", "object": "categorical", "treatment": "categorical"}


def made(path: Path, **columns: np.ndarray) -> ImageSet:
    images = np.random.default_rng(RNG_SEED).integers(0, 256, (N, 1, 8, 8), np.uint8)
    images[:, :, 0, 0] = 255
    high = {"azimuth": 360.0}
    factors = [
        Factor(k, "", 0, high.get(k, float(np.max(v)) + 1), KIND.get(k, "continuous")) for k, v in columns.items()
    ]
    write(path, images, np.stack(list(columns.values()), 1), factors, {})
    return open_set(path)


def test_objects_of_a_turntable(tmp_path: Path) -> None:
    """20 objects in 24 views, a few of them lost; what is measured in the image adds nothing to object and view."""
    rng = np.random.default_rng(RNG_SEED)
    turns, objects = np.arange(N) % 24 * 15.0, np.arange(N) // 24
    data = made(tmp_path / "a.h5", azimuth=turns, brightness=rng.random(N), object=objects)
    assert objects_in(data, range(3)) == Objects(2, (0,))
    told = advise(data).splitlines()
    assert "object names objects, each seen at all values of azimuth" in told[0] and "--group object" in told[0]
    reason = "for there is one image of each azimuth and object, so that it may be a function of them"
    assert told[1] == f"left out below: brightness, {reason}"
    assert told[-1].startswith(f"hpcauxvae train {data.path} --aux azimuth,object --latents 26 ")  # 2 + 19 + 5


def test_classes_of_many_things_are_no_objects(tmp_path: Path) -> None:
    """Slants that never meet, and widths that do, of which a digit has many images each; views at random, too."""
    rng = np.random.default_rng(RNG_SEED)
    digits = np.arange(N) % 10
    data = made(tmp_path / "a.h5", slant=rng.random(N), width=rng.integers(0, 4, N), object=digits)
    assert objects_in(data, range(3)) is None
    assert advise(data).splitlines()[-1].startswith(f"hpcauxvae train {data.path} --aux slant,width --out ")
    sparse = made(tmp_path / "b.h5", azimuth=rng.integers(0, 72, N) * 5.0, object=digits)
    assert objects_in(sparse, range(2)) is None


def test_a_few_treatments_on_each_day_are_no_objects(tmp_path: Path) -> None:
    """Any design has each pair once; what was measured beside it is to guide, and is not left out."""
    rng = np.random.default_rng(RNG_SEED)
    days, treatments = np.arange(N) // 3 * 1.0, np.arange(N) % 3
    data = made(tmp_path / "a.h5", day=days, area=rng.random(N), treatment=treatments)
    assert objects_in(data, range(3)) is None
    assert " --aux day,area,treatment " in advise(data).splitlines()[-1]

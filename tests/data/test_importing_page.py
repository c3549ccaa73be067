"""The commands of docs/data-format.md, as they stand there, on files such as it speaks of."""

import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import IDS, N, write_csv
from helpers.places import ROOT
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, validate

MASS, CHARGE = np.geomspace(1, 49, N), np.where(np.arange(N) == 5, np.nan, np.linspace(-0.9, 0.8, N))


def commands() -> list[list[str]]:
    page = (ROOT / "docs" / "data-format.md").read_text()
    start = "    hpcauxvae data import "
    return [shlex.split(line)[2:] for line in page.splitlines() if line.startswith(start)]


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object's label beside its own image: the value of every pixel is the object's mass."""
    fits, arrow = pytest.importorskip("astropy.io.fits"), pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    order = np.random.default_rng(0).permutation(N)
    images = np.broadcast_to(MASS.astype(np.float32)[:, None, None], (N, 33, 33))
    Path("stamps").mkdir()
    for name, image in zip(IDS, images, strict=True):
        hdus = [fits.ImageHDU(data, name=e) for e, data in (("SCI", image), ("ERR", image), ("DQ", 0 * image))]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(f"stamps/{name}.fits")
    files = [f"stamps/{name}.fits[SCI]" for name in IDS]
    columns = {"id": IDS, "file": files, "mass": MASS, "charge": [str(c) if c == c else "" for c in CHARGE]}
    write_csv(Path("catalogue.csv"), **{name: np.asarray(column)[order] for name, column in columns.items()})
    np.savez("cube.npz", id=IDS, images=images[..., None])
    np.savez("digits.npz", image=images.astype(np.uint8), mass=MASS.astype(np.uint8), digit=np.arange(N) % 3)
    with h5py.File("everything.h5", "w") as file:
        file["image"], file["ivar"], file["mass"], file["charge"] = images, 1 / images**2, MASS, CHARGE
    cells = [{"band": ["g"], "flux": [image.tolist()], "ivar": [image.tolist()]} for image in images]
    parquet.write_table(arrow.table({"image": cells, "object_id": IDS, "mass": MASS}), "galaxies.parquet")
    for line in commands():
        assert main(line) == 0
        made = open_set(line[2])
        assert validate(made.path) == [] and len(made) == N
        if made.factors:
            np.testing.assert_allclose(made.images[:, 0, 4, 4], made.values[:, made.column(["mass"])[0]], rtol=1e-6)
    assert {path.name for path in tmp_path.glob("*.h5")} == {line[2] for line in commands()} | {"everything.h5"}
    assert open_set("unlabelled.h5").shape == (1, 32, 32) and len(commands()) == 7
    assert [factor.kind for factor in open_set("digits.h5").factors] == ["continuous", "categorical"]

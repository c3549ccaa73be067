"""Every kind of file that `data import` names, written by its own library and read back from the set by h5py alone."""

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import IDS, RADIUS, H, N, W, counts, pictures, write_csv
from hpcauxvae.data.command import main
from hpcauxvae.data.importing import FILES, PICTURES
from hpcauxvae.types import InputError

IMAGES = counts()[:, 0]


def imported(source: Path, *options: str) -> dict[str, np.ndarray]:
    """What h5py finds in the set."""
    out = source.parent / "set.h5"
    assert main(["import", str(source), str(out), "--processes", "1", *options]) == 0
    with h5py.File(out) as file:
        return {name: file[name][:] for name in file}


def names(folder: Path) -> list[str]:
    """Of files with an image each."""
    (folder / "stamps").mkdir()
    for name, image in zip(IDS, IMAGES, strict=True):
        np.save(folder / "stamps" / f"{name}.npy", image)
    return [f"stamps/{name}.npy" for name in IDS]


def write_text(path: Path) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [("id", "file", "radius"), *zip(IDS, names(path.parent), map(repr, RADIUS.tolist()), strict=True)]
        )


def write_astropy(form: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = pytest.importorskip("astropy.table").Table
        table({"id": IDS, "file": names(path.parent), "radius": RADIUS}).write(path, format=form)

    return write


def write_fits(path: Path) -> None:
    """A cube beside a table."""
    fits, table = pytest.importorskip("astropy.io.fits"), pytest.importorskip("astropy.table").Table
    columns = fits.BinTableHDU(table({"id": IDS, "radius": RADIUS}))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGES, name="SCI"), columns]).writeto(path)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["image"], file["id"], file["radius"] = IMAGES, IDS, RADIUS


def write_netcdf(path: Path) -> None:
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, size in (("n", N), ("h", H), ("w", W)):
            file.createDimension(name, size)
        file.createVariable("image", ">f4", ("n", "h", "w"))[:] = IMAGES
        file.createVariable("radius", ">f8", ("n",))[:] = RADIUS


def write_zarr(path: Path) -> None:
    group = pytest.importorskip("zarr").open_group(str(path), mode="w")
    for name, array in (("image", IMAGES), ("id", IDS), ("radius", RADIUS)):
        group.create_array(name, data=array)


def write_parquet(path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": IMAGES.tolist(), "id": IDS, "radius": RADIUS}), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    ".csv": write_text,
    ".fits": write_fits,
    ".fit": write_fits,
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
    ".nc": write_netcdf,
    ".npz": lambda path: np.savez(path, image=IMAGES, id=IDS, radius=RADIUS),
    ".npy": lambda path: np.save(path, IMAGES),
    ".zarr": write_zarr,
    ".ecsv": write_astropy("ascii.ecsv"),
    ".vot": write_astropy("votable"),
    ".xml": write_astropy("votable"),
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_columns_or_arrays(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / f"mine{kind}")
    found = imported(tmp_path / f"mine{kind}")
    np.testing.assert_array_equal(found["images"], IMAGES[:, None])
    if kind != ".npy":
        np.testing.assert_array_equal(found["factors"], RADIUS[:, None])
    if kind not in (".npy", ".nc"):  # netCDF 3 has no whole numbers of 64 bits
        assert [text.decode() for text in found["id"]] == [str(name) for name in IDS]


def write_image(path: Path, image: np.ndarray) -> np.ndarray:
    """By the library of the kind; what another reader finds in it, where the kind is lossy."""
    kind = path.suffix
    if kind in (".fits", ".fit"):
        pytest.importorskip("astropy.io.fits").PrimaryHDU(image).writeto(path)
    elif kind == ".fz":
        fits = pytest.importorskip("astropy.io.fits")
        lossless = {"compression_type": "GZIP_2", "quantize_level": 0.0}
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, **lossless)]).writeto(path)
    elif kind == ".npy":
        np.save(path, image)
    elif kind in (".tif", ".tiff"):
        import tifffile

        tifffile.imwrite(path, image)
    else:
        from imageio.v3 import imread, imwrite

        imwrite(path, image)
        return imread(path)
    return image


@pytest.mark.parametrize("kind", PICTURES)
def test_a_file_for_each_image(tmp_path: Path, kind: str) -> None:
    whole = kind in (".png", ".jpg", ".jpeg")
    images = [
        write_image(tmp_path / f"{name}{kind}", image)
        for name, image in zip(IDS, pictures()[:, 0] if whole else IMAGES, strict=True)
    ]
    write_csv(tmp_path / "mine.csv", id=IDS, file=[f"{name}{kind}" for name in IDS], radius=RADIUS)
    found = imported(tmp_path / "mine.csv")
    np.testing.assert_array_equal(found["images"], np.stack(images)[:, None])
    assert found["images"].dtype == (np.uint8 if whole else np.float32)


def test_cubes_of_fits_by_name_and_number(tmp_path: Path) -> None:
    """Each counts once; two of one name have their numbers."""
    fits = pytest.importorskip("astropy.io.fits")
    hdus = [fits.ImageHDU(IMAGES + number, name=name) for number, name in enumerate(("A", "B", "B"), start=1)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "mine.fits")
    with pytest.raises(InputError, match="has A, 2, 3; allowed: one of them"):
        imported(tmp_path / "mine.fits")
    for name, number in (("A", 1), ("1", 1), ("2", 2), ("3", 3)):
        found = imported(tmp_path / "mine.fits", "--images", name)
        np.testing.assert_array_equal(found["images"], IMAGES[:, None] + number)
        (tmp_path / "set.h5").unlink()

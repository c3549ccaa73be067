"""`data import` of each kind of file: what another library wrote is in the set, pixel by pixel and value by value."""

import io
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import FLUX, IDS, RADIUS, H, N, W, catalogue, counts, pictures, write_csv, write_stamps
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import ImageSet, open_set, validate
from hpcauxvae.types import InputError


def made(source: Path, *options: str) -> ImageSet:
    """The set that `data import` makes, which keeps the format."""
    out = source.parent / "out.h5"
    assert main(["import", str(source), str(out), "--processes", "1", *options]) == 0
    assert validate(out) == [] and not out.with_name("out.h5.parts").exists()
    return open_set(out)


def assert_holds(found: ImageSet, images: np.ndarray, **columns: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(found.images), images)
    assert [factor.name for factor in found.factors] == list(columns)
    np.testing.assert_array_equal(found.values, np.stack(list(columns.values()), 1))
    for factor, column in zip(found.factors, columns.values(), strict=True):
        assert (factor.low, factor.high) == (np.nanmin(column), np.nanmax(column))


@pytest.mark.parametrize("kind", [".fits", ".fits.gz", ".npy", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_catalogue_and_files(tmp_path: Path, kind: str, channels: int) -> None:
    images = counts(channels)
    assert_holds(made(catalogue(tmp_path, images, kind)), images, radius=RADIUS)


@pytest.mark.parametrize("kind", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stay_bytes(tmp_path: Path, kind: str, channels: int) -> None:
    images = pictures(channels)
    found = made(catalogue(tmp_path, images, kind))
    assert_holds(found, images, radius=RADIUS)
    assert found.images.dtype == np.uint8


def test_tables_with_units(tmp_path: Path) -> None:
    """Rows without a flux, and units, in each kind of table that has them."""
    Table, units = pytest.importorskip("astropy.table").Table, pytest.importorskip("astropy.units")
    images = counts()
    files = [f"stamps/{name}" for name in write_stamps(tmp_path / "stamps", images)]
    table = Table(
        {"object_id": IDS, "file": files, "radius": RADIUS * units.arcsec, "flux": FLUX * units.Jy}, masked=True
    )
    table["flux"].mask[3] = True
    flux = np.where(np.arange(N) == 3, np.nan, FLUX)
    for name, form in (("t.fits", "fits"), ("t.ecsv", "ascii.ecsv"), ("t.vot", "votable"), ("t.xml", "votable")):
        table.write(tmp_path / name, format=form)
        found = made(tmp_path / name)
        assert_holds(found, images, radius=RADIUS, flux=flux)
        assert [factor.unit for factor in found.factors] == ["arcsec", "Jy"], name
        (tmp_path / "out.h5").unlink()


def test_columns_units_ranges_and_kinds_by_hand(tmp_path: Path) -> None:
    write_stamps(tmp_path / "stamps", counts())
    angle = np.linspace(0, 170, N)
    path = write_csv(tmp_path / "cat.csv", name=IDS, angle=angle, radius=RADIUS, flux=FLUX)
    found = made(
        path,
        *("--id", "name", "--images", f"{tmp_path}/stamps/{{name}}.fits", "--columns", "radius,angle"),
        *("--range", "angle=0:180", "--unit", "angle=deg,radius=kpc", "--kind", "angle=periodic"),
    )
    assert [tuple(factor)[:5] for factor in found.factors] == [
        ("radius", "kpc", RADIUS[0], RADIUS[-1], "continuous"),
        ("angle", "deg", 0, 180, "periodic"),
    ]
    np.testing.assert_array_equal(found.values, np.stack([RADIUS, angle], 1))


def test_extensions_and_bands(tmp_path: Path) -> None:
    """The named extension of each file; several columns of files are channels, one after the other."""
    fits = pytest.importorskip("astropy.io.fits")
    images = counts(3)
    for name, (g, r, z) in zip(IDS, images, strict=True):
        for band, first, second in (("a", g, r), ("b", z, g + 1)):
            hdus = [fits.PrimaryHDU(), fits.ImageHDU(first, name="SCI"), fits.ImageHDU(second, name="ERR")]
            fits.HDUList(hdus).writeto(tmp_path / f"{name}{band}.fits")
    files = {band: [f"{name}{band}.fits" for name in IDS] for band in "ab"}
    path = write_csv(
        tmp_path / "cat.csv", id=IDS, a=files["a"], b=[f"{name}[SCI]" for name in files["b"]], radius=RADIUS
    )
    found = made(path, "--images", "a[SCI],a[2],b")
    assert_holds(found, images, radius=RADIUS)
    assert found.provenance["image_origin"] == "lower"


def test_blank_scaled_and_big_endian_pixels_of_fits(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    stored = np.arange(N * H * W, dtype=np.int16).reshape(N, H, W)
    for name, image in zip(IDS, stored, strict=True):
        hdu = fits.PrimaryHDU(image * 0.5 + 100)
        hdu.scale("int16", bscale=0.5, bzero=100)
        hdu.writeto(tmp_path / f"{name}.fits")
    path = write_csv(tmp_path / "cat.csv", id=IDS, file=[f"{name}.fits" for name in IDS], radius=RADIUS)
    assert_holds(made(path), stored[:, None] * np.float32(0.5) + 100, radius=RADIUS)


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """By the library of the kind of file."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(str(path), mode="w")
        for name, array in arrays.items():
            group.create_array(name, data=array, chunks=(5, *array.shape[1:]))
    elif path.suffix == ".nc":
        from scipy.io import netcdf_file

        with netcdf_file(path, "w") as file:
            for name, array in arrays.items():
                axes = [f"{name}_{axis}" for axis in range(array.ndim)]
                for axis, size in zip(axes, array.shape, strict=True):
                    file.createDimension(axis, size)
                file.createVariable(name, array.dtype.newbyteorder(">"), axes)[:] = array
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, chunks=(2, *array.shape[1:]) if array.ndim > 1 else None)
    return path


@pytest.mark.parametrize("kind", [".h5", ".hdf5", ".nc", ".npz", ".zarr"])
@pytest.mark.parametrize("layout", ["NHWC", "CHWN", "NCHW"])
def test_arrays_of_one_file(tmp_path: Path, kind: str, layout: str) -> None:
    images = counts(2)
    array = images.transpose(["NCHW".index(axis) for axis in layout])
    path = write_arrays(tmp_path / f"all{kind}", image=array, radius=RADIUS)
    assert_holds(made(path, "--images", "image", "--layout", layout), images, radius=RADIUS)


@pytest.mark.parametrize("kind", [".h5", ".npz", ".zarr", ".npy"])
def test_arrays_beside_a_catalogue(tmp_path: Path, kind: str) -> None:
    """Joined by ids, in another order and with more of them; without ids row by row."""
    images, order = counts(), np.random.default_rng(1).permutation(N)
    table = write_csv(tmp_path / "cat.csv", id=IDS[order][:10], radius=RADIUS[order][:10])
    if kind != ".npy":
        path = write_arrays(tmp_path / f"cube{kind}", image=images[:, 0], objid=IDS)
        found = made(table, "--images", f"{path}:image", "--ids", "objid")
        assert_holds(found, images[order][:10], radius=RADIUS[order][:10])
    else:
        np.save(tmp_path / "cube.npy", images[:10, 0])
        assert_holds(made(table, "--images", str(tmp_path / "cube.npy")), images[:10], radius=RADIUS[order][:10])


def test_ids_by_two_names_are_not_taken_for_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Images and labels of a shuffled catalogue would be of different objects, without a word."""
    images, order = counts(), np.random.default_rng(1).permutation(N)
    table = write_csv(tmp_path / "cat.csv", objid=IDS[order], radius=RADIUS[order])
    path = write_arrays(tmp_path / "cube.npz", image=images[:, 0], id=IDS)
    words = r"cube.npz: has ids in id, .*cat.csv in objid; allowed: --ids id to find rows by them, or --id ''"
    with pytest.raises(InputError, match=words):
        made(table, "--images", f"{path}:image")
    assert_holds(made(table, "--images", f"{path}:image", "--ids", "id"), images[order], radius=RADIUS[order])
    capfd.readouterr()
    (tmp_path / "out.h5").unlink()
    plain = write_arrays(tmp_path / "plain.npz", image=images[:, 0])
    made(table, "--images", f"{plain}:image")
    assert f"warning: {plain}: image has no ids objid: its rows are taken in the order of " in capfd.readouterr().err


def test_columns_that_are_left_out_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two of one name, and one with a word among its numbers: of both it is said why."""
    np.save(tmp_path / "cube.npy", counts()[:, 0])
    rows = [f"{n},{n},{'big' if n == 3 else n},{r}" for n, r in enumerate(RADIUS)]
    (tmp_path / "cat.csv").write_text("\n".join(["flux,flux,mass,radius", *rows]) + "\n")
    made(tmp_path / "cat.csv", "--images", str(tmp_path / "cube.npy"))
    told = "columns left out: flux (2 columns of that name), mass ('big' in row 3 is no number)\n"
    assert told in capfd.readouterr().out


def test_rows_of_numbers_are_spectra_and_it_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Unless --layout has said so, or there are images."""
    told = f"spectra.npy: spectra: read as {N} spectra of {W} values, images of one row (--layout NW)\n"
    for name, array, words in (
        ("spectra", counts()[:, 0, 0], ()),
        ("images", counts()[:, 0], ()),
        ("spectra", counts()[:, 0, 0], ("--layout", "NW")),
    ):
        (tmp_path / "out.h5").unlink(missing_ok=True)
        np.save(tmp_path / f"{name}.npy", array)
        assert made(tmp_path / f"{name}.npy", *words).images.shape[2] == (1 if name == "spectra" else H)
        said = capfd.readouterr().out
        assert told in said if name == "spectra" and not words else " spectra of " not in said


def test_netcdf_4_with_packed_and_missing_values(tmp_path: Path) -> None:
    """The conventions of climate data: a scale, an offset; a spectrum is an image of one row."""
    packed = np.random.default_rng(2).integers(-300, 300, (N, W), dtype=np.int16)
    with h5py.File(tmp_path / "t.nc", "w") as file:
        file["tas"] = packed
        file["tas"].attrs.update(scale_factor=0.01, add_offset=280.0, _FillValue=np.int16(-9999), units="K")
        file["time"], file["lat"] = np.arange(N) * 365.0, np.arange(W) * 1.0
        file["time"].attrs["units"] = "days since 1860-01-01"
    found = made(tmp_path / "t.nc", "--columns", "time")
    assert_holds(found, (packed * 0.01 + 280.0).astype(np.float32)[:, None, None], time=np.arange(N) * 365.0)
    assert found.provenance["image_unit"] == "K" and found.factors[0].unit == "days since 1860-01-01"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("name", "attributes", "turned", "lower"),
    [
        ("lat", {}, 1, True), ("lat", {}, -1, False), ("rows", {"units": "degrees_north"}, 1, True),
        ("y", {"standard_name": "projection_y_coordinate"}, 1, True), ("rows", {"units": "pixel"}, 1, False),
    ],
)  # fmt: skip
def test_maps_whose_latitudes_rise_have_their_first_row_below(tmp_path, version, name, attributes, turned, lower):
    """North is up in pictures then; the pixels stay as they are."""
    from scipy.io import netcdf_file

    fields, north = np.random.default_rng(3).random((N, H, W)).astype("f4"), np.linspace(-60, 60, H)[::turned]
    if version == 3:
        with netcdf_file(tmp_path / "t.nc", "w") as file:
            for axis, values in {"time": np.arange(N) * 1.0, name: north, "lon": np.arange(W) * 1.0}.items():
                file.createDimension(axis, len(values))
                file.createVariable(axis, "d", (axis,))[:] = values
            for key, value in attributes.items():
                setattr(file.variables[name], key, value)
            file.createVariable("tas", "f", ("time", name, "lon"))[:] = fields
    else:
        with h5py.File(tmp_path / "t.nc", "w") as file:
            file["tas"], file[name], file["time"] = fields, north, np.arange(N) * 1.0
            file[name].attrs.update(attributes)
            file[name].make_scale(name)
            file["tas"].dims[1].attach_scale(file[name])
    found = made(tmp_path / "t.nc", "--images", f"{tmp_path}/t.nc:tas", "--columns", "time")
    assert np.array_equal(found.images[:], fields[:, None])
    assert (found.provenance.get("image_origin") == "lower") == lower


@pytest.mark.parametrize("form", ["struct of lists", "list of structs", "two files"])
def test_parquet_of_the_multimodal_universe(tmp_path: Path, form: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images, bands = counts(2), ["des-g", "des-r"]
    if form == "list of structs":
        cells = [[{"band": b, "flux": i.tolist()} for b, i in zip(bands, image, strict=True)] for image in images]
    else:
        cells = [{"band": bands, "flux": image.tolist()} for image in images]
    table = arrow.table({"image": cells, "object_id": [f"J{name}" for name in IDS], "radius": RADIUS})
    path = tmp_path / "t.parquet"
    if form == "two files":
        path = tmp_path / "parts"
        path.mkdir()
        parquet.write_table(table[:7], path / "a.parquet", row_group_size=3)
        parquet.write_table(table[7:], path / "b.parquet", row_group_size=3)
    else:
        parquet.write_table(table, path, row_group_size=5)
    found = made(path)
    assert_holds(found, images, radius=RADIUS)
    assert found.provenance["bands"] == "des-g,des-r"


def test_parquet_with_pictures_in_it(tmp_path: Path) -> None:
    """As Hugging Face stores them: the bytes of a PNG file in each row."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from PIL import Image

    images, cells = pictures(3), []
    for image in images:
        with io.BytesIO() as file:
            Image.fromarray(np.moveaxis(image, 0, -1)).save(file, "png")
            cells.append({"bytes": file.getvalue(), "path": "x.png"})
    parquet.write_table(arrow.table({"image": cells, "label": RADIUS}), tmp_path / "t.parquet")
    assert_holds(made(tmp_path / "t.parquet"), images, label=RADIUS)


def test_ids_of_parquet_are_exact_beside_empty_cells(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_stamps(tmp_path / "stamps", counts())
    ids = [*IDS[:-1].tolist(), None]
    parquet.write_table(arrow.table({"id": ids, "radius": RADIUS}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: id: row 11 has no id"):
        main(
            [
                "import",
                str(tmp_path / "t.parquet"),
                str(tmp_path / "out.h5"),
                "--images",
                f"{tmp_path}/stamps/{{id}}.fits",
            ]
        )
    ids[-1] = int(IDS[-1])
    flux = [None, *FLUX[1:].tolist()]
    parquet.write_table(arrow.table({"id": ids, "radius": RADIUS, "flux": flux}), tmp_path / "t.parquet")
    found = made(tmp_path / "t.parquet", "--images", f"{tmp_path}/stamps/{{id}}.fits")
    assert_holds(found, counts(), radius=RADIUS, flux=np.array([np.nan, *FLUX[1:]]))


def test_north_up(tmp_path: Path) -> None:
    """Images of one sky in all eight orientations become the same image: north up, east to the left."""
    fits = pytest.importorskip("astropy.io.fits")
    sky = np.random.default_rng(4).normal(size=(7, 7)).astype(np.float32)  # rows to the north, columns to the west
    y, x = np.mgrid[-3:4, -3:4]
    files = []
    for mirror in (1, -1):
        for degrees in (0, 90, 180, 270):
            quarter, tilted = (_sky_of_pixels(mirror, angle) for angle in (degrees, degrees + 10))  # no quarter
            east, north = np.rint(np.einsum("ij,jyx->iyx", quarter, np.stack([x, y]))).astype(int)
            header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0})
            header.update({f"CD{i + 1}_{j + 1}": 1e-4 * tilted[i, j] for i in range(2) for j in range(2)})
            files.append(f"{len(files)}.fits")
            fits.PrimaryHDU(sky[3 + north, 3 - east], header).writeto(tmp_path / files[-1])
    path = write_csv(tmp_path / "cat.csv", file=files, radius=RADIUS[:8])
    found = made(path, "--north-up")
    np.testing.assert_array_equal(found.images, np.broadcast_to(sky, (8, 1, 7, 7)))


def _sky_of_pixels(mirror: int, degrees: float) -> np.ndarray:
    """East and north of a step in x and a step in y."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[-mirror, 0], [0, 1]]) @ np.array([[cosine, sine], [-sine, cosine]])


def test_sizes_are_cut_and_filled_up(tmp_path: Path) -> None:
    images = pictures()
    path = catalogue(tmp_path, images, ".png")
    expected = np.zeros((N, 1, 5, 11), np.uint8)
    expected[..., 1:9] = images[:, :, 2:7]
    assert_holds(made(path, "--size", "5,11"), expected, radius=RADIUS)


def test_rows_without_an_image_are_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = counts()
    path = catalogue(tmp_path, images)
    (tmp_path / "stamps" / f"{IDS[4]}.fits").unlink()
    kept = np.arange(N) != 4
    assert_holds(made(path, "--matched"), images[kept], radius=RADIUS[kept])
    assert "1 of 12 rows have no image and are left out" in capsys.readouterr().out


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, module, install in (
        (".parquet", "pyarrow.parquet", "'hpcauxvae[import]'"),
        (".zarr", "zarr", "'hpcauxvae[import]'"),
        (".vot", "astropy.io.votable", "astropy"),
    ):
        (tmp_path / f"t{kind}").touch()
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(
            InputError, match=rf"t{kind}: .*{module}.* need it: pip install {install}".replace("[", r"\[")
        ):
            main(["import", str(tmp_path / f"t{kind}"), str(tmp_path / "out.h5")])


def test_pictures_with_alpha_and_palettes(tmp_path: Path) -> None:
    """An alpha channel that says nothing is left out; one that does is a channel; a palette is looked up."""
    from PIL import Image

    images = pictures(4)
    for name, image in zip(IDS, images, strict=True):
        last = np.moveaxis(image, 0, -1).copy()
        Image.fromarray(last).save(tmp_path / f"{name}.alpha.png")
        last[..., 3] = 255
        Image.fromarray(last).save(tmp_path / f"{name}.opaque.png")
        indexed = Image.fromarray(image[0] % 4)
        indexed.putpalette([7, 8, 9, 10, 20, 30, 255, 0, 1, 2, 3, 4])
        indexed.save(tmp_path / f"{name}.palette.png")
    path = write_csv(tmp_path / "cat.csv", id=IDS, radius=RADIUS)
    palette = np.array([[7, 8, 9], [10, 20, 30], [255, 0, 1], [2, 3, 4]], np.uint8)
    looked_up = np.moveaxis(palette[images[:, 0] % 4], -1, 1)
    for kind, expected in (("alpha", images), ("opaque", images[:, :3]), ("palette", looked_up)):
        assert_holds(made(path, "--images", f"{tmp_path}/{{id}}.{kind}.png"), expected, radius=RADIUS)
        (tmp_path / "out.h5").unlink()

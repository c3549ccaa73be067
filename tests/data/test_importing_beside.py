"""`data import` of what stands beside images and labels: noise, masks, missing pixels, ids, errors, groups, parts."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import FLUX, IDS, RADIUS, H, N, W, catalogue, counts, pictures, write_csv, write_stamps
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import ImageSet, open_set, validate, write
from hpcauxvae.data.importing import work
from hpcauxvae.types import Factor, InputError

NOISE = np.random.default_rng(8).uniform(0.5, 3, (N, 1, H, W)).astype(np.float32)
BAD = np.random.default_rng(9).random((N, 1, H, W)) < 0.1


def made(source: Path, *options: str) -> ImageSet:
    out = source.parent / "out.h5"
    assert main(["import", str(source), str(out), "--processes", "1", *options]) == 0
    assert validate(out) == []
    return open_set(out)


def stored(name: str, folder: Path) -> np.ndarray:
    with h5py.File(folder / "out.h5") as file:
        return file[name][:]


def refused(source: Path, message: str, *options: str) -> None:
    with pytest.raises(InputError, match=message):
        main(["import", str(source), str(source.parent / "out.h5"), "--processes", "1", *options])
    assert not list(source.parent.glob("out.h5*"))


def fits_files(folder: Path, noise: np.ndarray) -> Path:
    """SCI, ERR and DQ of each object in a file; a bad pixel is 1e30."""
    fits = pytest.importorskip("astropy.io.fits")
    for name, image, error, bad in zip(IDS, counts()[:, 0], noise[:, 0], BAD[:, 0], strict=True):
        parts = [("SCI", np.where(bad, np.float32(1e30), image)), ("ERR", error), ("DQ", bad.astype(np.int16) * 64)]
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(data, name=extension) for extension, data in parts)]
        fits.HDUList(hdus).writeto(folder / f"{name}.fits")
    return write_csv(folder / "cat.csv", id=IDS, file=[f"{name}.fits" for name in IDS], radius=RADIUS)


def test_noise_and_mask_in_extensions(tmp_path: Path) -> None:
    made(fits_files(tmp_path, NOISE), "--images", "file[SCI]", "--noise", "[ERR]", "--mask", "[DQ]")
    weights = np.where(BAD, 0, NOISE.astype(float) ** -2).astype(np.float32)
    np.testing.assert_array_equal(stored("weights", tmp_path), weights)
    np.testing.assert_array_equal(stored("images", tmp_path)[~BAD], counts()[~BAD])
    assert not np.any(stored("images", tmp_path)[BAD])  # nothing of what a bad pixel held


def test_a_mask_without_noise_makes_missing_pixels(tmp_path: Path) -> None:
    """Also where the images are pictures of bytes."""
    made(fits_files(tmp_path, NOISE), "--images", "file[SCI]", "--mask", "[DQ]")
    np.testing.assert_array_equal(stored("images", tmp_path), np.where(BAD, np.nan, counts()))
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["missing_pixels"] == "nan" and "weights" not in file
    (tmp_path / "out.h5").unlink()
    np.savez(tmp_path / "t.npz", image=pictures(), radius=RADIUS, fine=~BAD[:, 0])
    made(tmp_path / "t.npz", "--images", "image", "--good", "fine")
    np.testing.assert_array_equal(stored("images", tmp_path), np.where(BAD, np.nan, pictures()))


def test_pixels_without_a_weight_or_a_noise_are_missing(tmp_path: Path) -> None:
    """Zero and NaN among noise and inverse variances, and NaN among pixels."""
    odd = NOISE.copy()
    odd[0, 0, 0, :3] = 0, np.nan, np.inf
    images = counts()
    images[2, 0, 4, 5] = np.nan
    lost = np.zeros(odd.shape, bool)
    lost[0, 0, 0, :3], lost[2, 0, 4, 5] = True, True
    with np.errstate(divide="ignore"):
        inverse = odd.astype(float) ** -2
    inverse[0, 0, 0, 0] = 0
    np.savez(tmp_path / "t.npz", image=images, noise=odd, ivar=inverse, radius=RADIUS)
    weights = np.where(lost, 0, NOISE.astype(float) ** -2).astype(np.float32)
    for option, name in (("--noise", "noise"), ("--weights", "ivar")):
        made(tmp_path / "t.npz", "--images", "image", option, name)
        np.testing.assert_allclose(stored("weights", tmp_path), weights, rtol=1e-6)
        np.testing.assert_array_equal(
            stored("images", tmp_path), np.where(np.isnan(images), 0, np.where(lost, 0, images))
        )
        (tmp_path / "out.h5").unlink()


def test_the_multimodal_universe(tmp_path: Path) -> None:
    """Its mask says which pixels are good; bands of one image share what has one channel."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images, inverse = counts(2), np.repeat(NOISE, 2, 1).astype(np.float32)
    fields = {"band": [["g", "r"]] * N, "flux": images, "ivar": inverse, "mask": np.repeat(~BAD, 2, 1)}
    cells = [
        [{name: np.asarray(field[n][b]).tolist() for name, field in fields.items()} for b in range(2)] for n in range(N)
    ]
    table = arrow.table({"image": cells, "object_id": [f"J{name}" for name in IDS], "z": RADIUS})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=5)
    found = made(tmp_path / "t.parquet")
    weights = np.where(BAD, 0, inverse)
    np.testing.assert_array_equal(stored("weights", tmp_path), weights)
    np.testing.assert_array_equal(stored("images", tmp_path), np.where(BAD, 0, images))
    assert found.id is not None and found.id.tolist() == [f"J{name}" for name in IDS]
    (tmp_path / "out.h5").unlink()
    with h5py.File(tmp_path / "u.h5", "w") as file:
        file["image_array"], file["image_ivar"], file["image_mask"] = images, inverse, ~BAD[:, 0]
        file["object_id"], file["z"], file["image_band"] = IDS, RADIUS, np.array([[b"g", b"r"]] * N)
    assert made(tmp_path / "u.h5").provenance["bands"] == "g,r"
    np.testing.assert_array_equal(stored("weights", tmp_path), weights)


def test_pixels_that_are_filled_up_are_missing(tmp_path: Path) -> None:
    images = counts()
    path = catalogue(tmp_path, images)
    made(path, "--size", "11,5")
    expected = np.full((N, 1, 11, 5), np.nan, np.float32)
    expected[:, :, 1:10] = images[..., 1:6]
    np.testing.assert_array_equal(stored("images", tmp_path), expected)
    (tmp_path / "out.h5").unlink()
    made(path, "--size", "11,5", "--fill", "-7.5")
    np.testing.assert_array_equal(stored("images", tmp_path), np.where(np.isnan(expected), -7.5, expected))
    with h5py.File(tmp_path / "out.h5") as file:
        assert "missing_pixels" not in file.attrs


def test_ids_errors_groups_parts_and_logarithms(tmp_path: Path) -> None:
    files = write_stamps(tmp_path / "stamps", counts())
    error, parts = np.where(np.arange(N) == 3, np.nan, 0.1), np.array(["train"] * 8 + ["validation"] * 2 + ["test"] * 2)
    table = {"id": IDS, "file": [f"stamps/{name}" for name in files], "radius": RADIUS, "flux": FLUX, "e_flux": error}
    path = write_csv(tmp_path / "cat.csv", **table, field=np.arange(N) // 2, part=parts)
    options = ("--errors", "flux=e_flux", "--group", "field", "--split", "part", "--log", "flux")
    found = made(path, *options)
    assert [(factor.name, factor.transform) for factor in found.factors] == [("radius", "linear"), ("flux", "log10")]
    np.testing.assert_array_equal(stored("factor_errors", tmp_path), np.stack([np.full(N, np.nan), error], 1))
    for name, expected in (("id", IDS.astype(str)), ("group", (np.arange(N) // 2).astype(str)), ("split", parts)):
        assert [cell.decode() for cell in stored(name, tmp_path)] == expected.tolist()


def test_whole_numbers_among_factors_are_groups(tmp_path: Path) -> None:
    """The factors of a set are stored as float64, whatever they are; halves are no groups."""
    write(tmp_path / "cars.h5", counts(), np.arange(N)[:, None] // 2 * 1.0, [Factor("car", "", 0, N)], {})
    found = made(tmp_path / "cars.h5", "--group", "car")
    assert found.group is not None and found.group.tolist() == (np.arange(N) // 2).tolist()
    write(tmp_path / "halves.h5", counts(), np.arange(N)[:, None] / 2, [Factor("car", "", 0, N)], {})
    (tmp_path / "out.h5").unlink()
    with pytest.raises(
        InputError, match=r"car: type float64, such as 0\.0; allowed as --group: text, or whole numbers"
    ):
        made(tmp_path / "halves.h5", "--group", "car")


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ([""] + ["a"] * (N - 1), ("--group", "other"), "other in row 0 is empty; allowed: a group in each row"),
        (
            ["train"] * (N - 1) + ["exam"],
            ("--split", "other"),
            "split: 'exam' of sample 11 is not allowed; train, valid",
        ),
        (np.arange(N), ("--log", "other"), "--log other: from 0 on; allowed: quantities, and a --range, above 0"),
        (np.arange(N), ("--log", "mass"), "--log mass: allowed: radius, other"),
        (-np.arange(N), ("--errors", "radius=other"), "factor_errors, radius: -1.0 of sample 1 is not allowed"),
        (np.arange(N), ("--errors", "mass=other"), "--errors mass=other: allowed is NAME=VALUE, NAME one of"),
        (np.arange(N), ("--errors", "radius=none"), "no column none; has id, file, radius, other"),
    ],
)
def test_columns_that_cannot_stand_beside(tmp_path: Path, column: list, options: tuple[str, ...], message: str) -> None:
    files = write_stamps(tmp_path / "stamps", counts())
    path = write_csv(tmp_path / "cat.csv", id=IDS, file=[f"stamps/{n}" for n in files], radius=RADIUS, other=column)
    refused(path, message, *options)


def test_weights_that_cannot_be(tmp_path: Path) -> None:
    images = counts(2)

    def changed(array: np.ndarray, value: float) -> np.ndarray:
        array = np.array(array)
        array[7, 0, 2, 2] = value
        return array

    maps = {
        "negative": changed(NOISE, -1),
        "infinite": changed(NOISE, np.inf),
        "tiny": changed(NOISE, 1e-30),
        "narrow": NOISE[..., 1:],
        "three": np.repeat(NOISE, 3, 1),
        "short": NOISE[:5],
        "text": np.full(NOISE.shape, "a"),
        "all": np.broadcast_to((np.arange(N) == 7)[:, None, None, None], NOISE.shape),
    }
    np.savez(tmp_path / "t.npz", image=images, radius=RADIUS, **maps)
    path = tmp_path / "t.npz"
    for options, message in (
        (("--weights", "negative"), r"t\.npz: negative in row 7: weight -1; allowed: 0 or more"),
        (("--noise", "negative"), r"t\.npz: negative in row 7: noise -1; allowed: 0 or more"),
        (("--weights", "infinite"), r"t\.npz: infinite in row 7: an infinite weight; allowed: finite"),
        (("--noise", "tiny"), r"t\.npz: tiny in row 7: an infinite weight; allowed: finite"),
        (("--weights", "narrow"), r"t\.npz: narrow in row 0: 1 x 9 x 7 pixels; allowed: 2 x 9 x 8, as the image has"),
        (("--mask", "three"), r"t\.npz: three in row 0: 3 x 9 x 8 pixels; allowed: 2 x 9 x 8"),
        (("--noise", "short"), r"t\.npz: short has 5 samples, but .*t\.npz 12 rows; allowed: as many"),
        (("--noise", "text"), r"t\.npz: text in row 0: images: type <U1; allowed: real numbers"),
        (("--mask", "all"), r"t\.npz: image in row 7: all pixels are missing; allowed: at least one"),
        (("--mask", "none"), r"--mask none: no column of .*t\.npz and no file"),
    ):
        refused(path, message, "--images", "image", *options)


def test_an_image_of_nothing(tmp_path: Path) -> None:
    images = counts()
    images[7] = np.nan
    refused(catalogue(tmp_path, images), rf"{IDS[7]}\.fits \(row 7\): all pixels are missing")


@pytest.mark.parametrize("labels", [False, True])
def test_images_without_labels(tmp_path: Path, labels: bool) -> None:
    """A folder of images; a catalogue of one, whose columns cannot vary."""
    images = counts()
    if labels:
        found = made(
            write_csv(tmp_path / "cat.csv", file=[f"stamps/{write_stamps(tmp_path / 'stamps', images)[3]}"], a=[1])
        )
        np.testing.assert_array_equal(np.asarray(found.images), images[3:4])
    else:
        write_stamps(tmp_path / "stamps", images)
        found = made(tmp_path / "stamps")
        np.testing.assert_array_equal(np.asarray(found.images), images)
        assert found.id is not None and found.id.tolist() == IDS.astype(str).tolist()
    assert found.factors == ()


def test_holes_are_counted_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them were read by the start that was stopped; the next has to know that there are any."""
    images = np.where(BAD, np.nan, counts())
    path = catalogue(tmp_path, images)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "_store", stop)
        assert main(["import", str(path), str(tmp_path / "out.h5"), "--processes", "1"]) == 130
    made(path)
    np.testing.assert_array_equal(stored("images", tmp_path), images)


def test_missing_pixels_of_a_set_stay_missing(tmp_path: Path) -> None:
    """A set of this package as the source."""
    holes = np.where(BAD, np.float32(np.nan), counts())
    write(tmp_path / "set.h5", holes, RADIUS[:, None], [Factor("radius", "", 0, 100)], {}, missing_pixels="nan")
    made(tmp_path / "set.h5")
    np.testing.assert_array_equal(stored("images", tmp_path), holes)

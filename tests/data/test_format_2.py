"""Version 2 of the format: what may stand beside images and factors is kept, checked and said."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from helpers.set_files import FACTORS, SHAPE, F, N, assert_refused, content
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import check_pixels, create, open_set, validate, write
from hpcauxvae.data.samples import Samples
from hpcauxvae.types import Factor, InputError

LOGARITHMIC = (FACTORS[0]._replace(transform="log10"), *FACTORS[1:])


def beside() -> dict[str, Any]:
    """Some of everything: a pixel of no weight in sample 3, and one that is NaN in sample 4."""
    weights = np.random.default_rng(5).uniform(1, 2, SHAPE)
    weights[3, 0, 1, 2] = 0
    return {
        "weights": weights,
        "factor_errors": np.full((N, F), 0.1),
        "id": [f"galaxy {n}" for n in range(N)],
        "group": np.arange(N) // 4,
        "split": ["train"] * 14 + ["validation"] * 4 + ["test"] * 2,
        "missing_pixels": "nan",
    }


def holed() -> np.ndarray:
    images = content()[0]
    images[4, 1, 0, 0] = np.nan
    return images


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file with all of it."""
    path = tmp_path / "set.h5"
    write(path, holed(), content()[1], LOGARITHMIC, {"seed": 7}, **beside())
    return path


def test_what_is_written_is_what_h5py_and_open_set_read(path: Path) -> None:
    given = beside()
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 2 and file.attrs["missing_pixels"] == "nan"
        np.testing.assert_array_equal(file["weights"][:], given["weights"].astype("f4"))
        assert list(file["factors"].attrs["transform"]) == ["log10", "linear", "linear"]
        assert file["id"][3] == b"galaxy 3" and file["group"][5] == 1 and file["split"][19] == b"test"
    data = open_set(path)
    for name in ("factor_errors", "id", "group", "split"):
        np.testing.assert_array_equal(getattr(data, name), given[name])
    np.testing.assert_array_equal(data.weights, given["weights"].astype("f4"))
    assert data.factors == LOGARITHMIC and data.provenance == {"seed": 7}
    check_pixels(data)
    assert validate(path) == []


def test_missing_pixels_count_as_the_lowest_of_their_image(path: Path) -> None:
    data, images = open_set(path), content()[0]
    images[3, 0, 1, 2] = np.delete(images[3].ravel(), 1 * 5 + 2).min()
    images[4, 1, 0, 0] = np.delete(images[4].ravel(), 20).min()
    for index in (3, -16, slice(2, 6), np.array([4, 3, 4])):
        np.testing.assert_array_equal(data.images[index], images[index])
    weights = beside()["weights"].astype("f4")
    weights[4, 1, 0, 0] = 0
    for index in (3, 4, slice(2, 6), np.array([4, 3, 4])):
        np.testing.assert_array_equal(data.images.weights_at(index), weights[index])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
def test_the_value_of_a_pixel_without_weight_is_not_seen(path: Path, value: float) -> None:
    before = open_set(path)
    with h5py.File(path, "r+") as file:
        file["images"][3, 0, 1, 2] = value
    after = open_set(path)
    np.testing.assert_array_equal(before.images[:], after.images[:])
    assert before.fingerprint == after.fingerprint and validate(path) == []


def test_weights_that_float32_does_not_hold_are_refused(tmp_path: Path) -> None:
    """As of errors of 1e-20 in the images' unit: as infinite numbers they would be refused without a reason."""
    weights = np.ones(SHAPE)
    weights[2:4, 0, 0, 0] = 1e40
    with pytest.raises(
        InputError, match=r"weights: 1e\+40, which float32 does not hold \(2 such values\); .* another unit"
    ):
        write(tmp_path / "set.h5", *content(), FACTORS, {}, weights=weights)


def test_weights_that_float32_holds_as_0_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Their pixels are missing then; those that are 0 are so by their own word."""
    weights = np.ones(SHAPE)
    weights[2:4, 0, 0, 0], weights[5, 0, 0, 0], weights[6, 0, 0, 0] = 1e-50, 0, 1e-44
    write(tmp_path / "set.h5", *content(), FACTORS, {}, weights=weights)
    (told,) = capfd.readouterr().err.splitlines()
    assert told.startswith(f"warning: {tmp_path}") and "weights: 2 are above 0 but too small for float32" in told
    weights[2:4] = 1
    write(tmp_path / "whole.h5", *content(), FACTORS, {}, weights=weights)
    assert capfd.readouterr().err == ""


def test_weights_in_memory_are_not_the_file_s(tmp_path: Path) -> None:
    """Memory that is mapped for reading alone must not be a tensor's."""
    write(tmp_path / "set.h5", *content(), FACTORS, {}, weights=np.ones(SHAPE))
    data = open_set(tmp_path / "set.h5")
    samples = Samples(data, torch.device("cpu"), torch.float32, in_memory=True)
    assert data.weights is not None and samples.weights is not None
    assert not np.shares_memory(samples.weights.numpy(), data.weights)


@pytest.mark.parametrize("shape", [(N, 2, 1, 1), (1, 2, 4, 5), (1, 2, 4, 1), (1, 2, 1, 5), (1, 2, 1, 1)])
def test_weights_that_images_or_pixels_share(tmp_path: Path, shape: tuple[int, ...]) -> None:
    weights = np.arange(1, 1 + np.prod(shape), dtype="f4").reshape(shape)
    write(tmp_path / "set.h5", *content(), FACTORS, {}, weights=weights)
    data = open_set(tmp_path / "set.h5")
    whole = np.broadcast_to(weights, SHAPE)
    for index in (7, slice(3, 9), np.array([7, 2])):
        np.testing.assert_array_equal(np.broadcast_to(data.images.weights_at(index), whole[index].shape), whole[index])
        np.testing.assert_array_equal(data.images[index], content()[0][index])


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
def test_types_of_pixels(tmp_path: Path, dtype: str) -> None:
    images = np.abs(content()[0] * 100).astype(dtype)
    write(tmp_path / "set.h5", images, content()[1], FACTORS, {})
    data = open_set(tmp_path / "set.h5")
    assert data.images.dtype == dtype and validate(data.path) == []
    np.testing.assert_array_equal(data.images, images)
    with h5py.File(data.path, "r+") as file:
        assert file.attrs["format_version"] == 2
        file.attrs["format_version"] = 1
    with pytest.raises(InputError, match=f"images: type {dtype} is not float32 or uint8"):
        open_set(data.path)


def test_what_uses_nothing_new_is_of_version_1(tmp_path: Path) -> None:
    write(tmp_path / "set.h5", *content(), FACTORS, {})
    with h5py.File(tmp_path / "set.h5") as file:
        assert file.attrs["format_version"] == 1 and "transform" not in file["factors"].attrs
        assert set(file) == {"images", "factors"}


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_in_a_list_of_one(path: Path, version: int) -> None:
    """As MATLAB and R write numbers."""
    data = open_set(path)
    with h5py.File(path, "r+") as file:
        file["images"][4] = 1
        file.attrs["format_version"] = np.array([[version]])
    assert validate(path) == [] and len(open_set(path)) == len(data)
    assert (open_set(path).weights is None) == (version == 1)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.array([version, version])
    with pytest.raises(InputError, match=r"attribute format_version: .* is not 1 or 2"):
        open_set(path)


def test_version_1_with_more_is_told_of(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
        file["images"][4] = 1
    assert main(["check", str(path)]) == 0
    told = capfd.readouterr().err
    assert "weights, factor_errors, id, group, split, missing_pixels, transform: not read in a file of format" in told
    assert open_set(path).weights is None and open_set(path).factors == FACTORS


def test_a_logarithmic_range() -> None:
    factor = Factor("mass", "kg", 1, 1000, "continuous", "log10")
    np.testing.assert_allclose(factor.scale(np.array([1, 10, 100, 1000, np.nan])), [0, 1 / 3, 2 / 3, 1, np.nan])
    np.testing.assert_allclose(factor.unscale(np.array([0, 1 / 3, 1])), [1, 10, 1000])
    assert factor.span == (pytest.approx(3), "dex")


def test_without_factors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for images in (content()[0], content()[0][:1]):
        path = tmp_path / f"{len(images)}.h5"
        write(path, images, None, [], {})
        assert main(["check", str(path)]) == 0
        assert "no factors" in capfd.readouterr().out
        data = open_set(path)
        assert len(data) == len(images) and data.scaled().shape == (len(images), 0)
        with pytest.raises(InputError, match="factor 'mass' is unknown: the file has no factors"):
            data.column(["mass"])


def test_ids_keep_all_digits(tmp_path: Path) -> None:
    ids = 10**18 + np.arange(N)
    write(tmp_path / "set.h5", *content(), FACTORS, {}, id=ids)
    assert open_set(tmp_path / "set.h5").id.tolist() == ids.tolist()


def test_create_fills_weights_part_by_part(tmp_path: Path) -> None:
    with create(tmp_path / "set.h5", SHAPE, FACTORS, {}, weights=SHAPE, missing_pixels="nan") as (images, factors):
        factors[:] = content()[1]
        images[:] = np.ma.masked_invalid(holed())
        images.file["weights"][:12] = 1
    assert validate(tmp_path / "set.h5") == [
        f"{tmp_path / 'set.h5'}: weights: nan in sample 12, channel 0, pixel (0, 0) is not allowed; 0, where a pixel "
        "is missing, or positive and finite"
    ]
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        assert np.isnan(file["images"][4, 1, 0, 0])
        file["weights"][12:] = 1
    assert validate(tmp_path / "set.h5") == []


def test_check_describes_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 0
    out = capfd.readouterr().out
    for line in (
        "mass: 10 to 20 kg, scaled by its logarithm",
        "missing pixels: 0.250% of all",
        "weights: inverse variances 20x2x4x5",
        "factor_errors: 60 of 60 are known",
        "id: galaxy 0, …, galaxy 19",
        "group: 5 groups of 4 to 4 samples",
        "split as the file says: 14 training, 4 validation, 2 test samples",
    ):
        assert f"  {line}" in out


def test_check_says_where_no_pixel_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "set.h5", *content(), FACTORS, {}, weights=np.ones(SHAPE))
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    assert "\n  missing pixels: none\n" in capfd.readouterr().out


Change = Callable[[h5py.File], None]


def other(name: str, values: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def at(name: str, index: Any, value: Any) -> Change:
    return lambda file: file[name].__setitem__(index, value)


BROKEN: dict[str, tuple[Change, str]] = {
    "weights' shape": (
        other("weights", np.ones((N, 1, 4, 5), "f4")),
        "weights: shape (20, 1, 4, 5) is not (N or 1, C, H or 1, W or 1) of images (20, 2, 4, 5)",
    ),
    "weights' type": (other("weights", np.ones(SHAPE)), "weights: type float64 is not float32"),
    "errors' shape": (
        other("factor_errors", np.ones((N, 2))),
        "factor_errors: shape (20, 2) is not that of factors, (20, 3)",
    ),
    "errors' sign": (at("factor_errors", (6, 1), -0.5), "factor_errors, spin: -0.5 of sample 6 is not allowed (1 such"),
    "ids' type": (other("id", np.ones(N)), "id: type float64 is not text or a whole number"),
    "ids' length": (other("id", np.arange(N - 1)), "id: shape (19,) is not (20,), one for each image"),
    "ids twice": (at("id", 7, "galaxy 2"), "id: galaxy 2 is that of samples 2 and 7 (1 are there again)"),
    "groups": (other("group", np.ones((N, 1), int)), "group: shape (20, 1) is not (20,), one for each image"),
    "parts": (at("split", 3, "dev"), "split: 'dev' of sample 3 is not allowed; train, validation, test"),
    "parts' type": (other("split", np.zeros(N, int)), "split: type int64 is not text"),
    "missing pixels": (
        lambda file: file.attrs.__setitem__("missing_pixels", "-99"),
        "attribute missing_pixels: '-99' is not allowed; nan, or nothing",
    ),
    "whole numbers": (other("images", np.ones(SHAPE, "u1")), "attribute missing_pixels: nan, but images of uint8 hold"),
    "transform": (
        lambda file: file["factors"].attrs.__setitem__("transform", ["ln", "linear", "linear"]),
        "factors, mass: transform 'ln' is not allowed; linear, log10",
    ),
    "logarithm of 0": (
        lambda file: file["factors"].attrs.__setitem__("transform", ["linear", "linear", "log10"]),
        "factors, age: transform log10 with a range from 0.0; allowed: from above 0",
    ),
    "a link": (lambda file: (file.__delitem__("id"), file.create_group("id"))[0], "id: is not a data set"),
}
PIXELS: dict[str, tuple[Change, str]] = {
    "negative weight": (at("weights", (9, 1, 2, 3), -1), "weights: -1.0 in sample 9, channel 1, pixel (2, 3) is"),
    "infinite weight": (at("weights", (9, 1, 2, 3), np.inf), "weights: inf in sample 9, channel 1, pixel (2, 3) is"),
    "nothing known": (at("images", 5, np.nan), "images: every pixel of sample 5 is missing (1 of 20 samples are so)"),
    "no weight": (at("weights", 5, 0), "images: every pixel of sample 5 is missing (1 of 20 samples are so)"),
    "infinite": (at("images", (5, 0, 1, 1), np.inf), "images: inf in sample 5, channel 0, pixel (1, 1) is not finite"),
}


@pytest.mark.parametrize("fault", [*BROKEN, *PIXELS])
def test_broken_rule(path: Path, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    change, message = (BROKEN | PIXELS)[fault]
    with h5py.File(path, "r+") as file:
        change(file)
    assert_refused(path, message, capfd)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        check_pixels(open_set(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": np.arange(N) / 2}, "id: type float64; allowed: texts or whole numbers"),
        ({"id": [*range(N - 1), 3]}, "id: 3 is that of samples 3 and 19"),
        ({"id": [*map(str, range(N - 1)), None]}, "id: None is no text"),
        ({"id": np.ma.array(np.arange(N), mask=np.arange(N) == 3)}, "id: 1 are masked"),
        ({"weights": np.ones((N, 2, 4))}, "weights: shape (20, 2, 4) is not (N or 1, C"),
        ({"weights": -np.ones(SHAPE)}, "weights: -1.0 in sample 0"),
        ({"split": ["train"] * (N - 1)}, "split: shape (19,) is not (20,)"),
        ({"factor_errors": np.ones((N, 1))}, "factor_errors: shape (20, 1) is not that of factors"),
        ({"missing_pixels": "zero"}, "attribute missing_pixels: 'zero' is not allowed"),
    ],
)
def test_write_refuses_and_leaves_nothing(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'set.h5'}: {message}")):
        write(tmp_path / "set.h5", *content(), FACTORS, {}, **change)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError, match="weight"):
        write(tmp_path / "set.h5", *content(), FACTORS, {}, weight=1)


def test_shards(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Halves of the set, and a virtual set over them that has all of it."""
    halves = {"shard0.h5": slice(0, 12), "shard1.h5": slice(12, N)}
    parts = list(halves.items())
    with h5py.File(path) as whole, h5py.File(tmp_path / "virtual.h5", "w") as file:
        for name, stored in whole.items():
            layout = h5py.VirtualLayout(stored.shape, stored.dtype)
            for shard, rows in parts:
                shape = (rows.stop - rows.start, *stored.shape[1:])
                with h5py.File(tmp_path / shard, "a") as part:
                    part.create_dataset(name, data=stored[rows], dtype=stored.dtype)
                layout[rows] = h5py.VirtualSource(shard, name, shape, stored.dtype)
            file.create_virtual_dataset(name, layout).attrs.update(stored.attrs)
        file.attrs.update(whole.attrs)
    assert validate(tmp_path / "virtual.h5") == []
    one, other = open_set(path), open_set(tmp_path / "virtual.h5")
    assert one.fingerprint == other.fingerprint
    rows = np.array([15, 4, 3])
    np.testing.assert_array_equal(one.images.weights_at(rows), other.images.weights_at(rows))
    np.testing.assert_array_equal(one.images[rows], other.images[rows])
    (tmp_path / "shard1.h5").unlink()
    assert main(["check", str(tmp_path / "virtual.h5")]) == 2
    assert "weights, shard" in capfd.readouterr().err

"""`data import` of sets in the format itself, of one mask for all images, and of weights that float32 does not hold."""

import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.foreign import IDS, H, N, W, catalogue, counts, write_csv
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import ImageSet, open_set, validate, write
from hpcauxvae.data.importing import work
from hpcauxvae.types import Factor, InputError

RNG = np.random.default_rng(5)
FACTORS = [
    Factor("mass", "kg", 0, 100),
    Factor("turn", "deg", 0, 360, "periodic"),
    Factor("size", "m", 0.5, 50, transform="log10"),
]
BAD = RNG.random((H, W)) < 0.2


def made(source: Path, *options: str) -> ImageSet:
    out = source.parent / "out.h5"
    assert main(["import", str(source), str(out), "--processes", "1", *options]) == 0
    assert validate(out) == []
    return open_set(out)


def own(path: Path, dtype: type = np.uint8, **more: Any) -> Path:
    values = np.stack([RNG.uniform(1, 99, N), RNG.uniform(1, 359, N), RNG.uniform(1, 40, N)], 1)
    values[3, 1] = np.nan
    told = {"image_unit": "mJy", "image_origin": "lower", "origin": "mine"}
    write(path, more.pop("images", RNG.integers(1, 90, (N, 2, H, W))).astype(dtype), values, FACTORS, told, **more)
    return path


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other, equal_nan=np.asarray(other).dtype.kind == "f")


def test_a_set_brings_all_that_stands_beside_its_images(tmp_path: Path) -> None:
    weights = RNG.random((N, 2, 1, 1)).astype(np.float32) + 1
    weights[4, 1] = 0
    errors = RNG.random((N, 3))
    errors[:, 1] = np.nan
    split = np.array(["train", "validation", "test"])[np.arange(N) % 3]
    path = own(tmp_path / "set.h5", weights=weights, factor_errors=errors, id=IDS, group=np.arange(N) // 2, split=split)
    old, new = open_set(path), made(path)
    assert new.factors == old.factors and same(new.values, old.values)
    assert same(new.factor_errors, errors) and same(new.id, np.array(IDS, str)) and same(new.group, old.group)
    assert same(new.split, split)
    assert new.weights is not None and same(np.array(new.weights), np.broadcast_to(weights, (N, 2, H, W)))
    known = np.broadcast_to(weights > 0, (N, 2, H, W))
    found = np.array(new.images.raw[:])  # type: ignore[union-attr]
    assert found.dtype == np.uint8 and same(found[known], old.images.raw[:][known])  # type: ignore[union-attr]
    assert not found[~known].any()
    assert {name: new.provenance[name] for name in ("image_unit", "image_origin")} == {
        "image_unit": "mJy", "image_origin": "lower"
    }  # fmt: skip


def test_missing_pixels_and_version_1(tmp_path: Path) -> None:
    images = RNG.random((N, 2, H, W))
    images[:, 0, 2:4] = np.nan
    path = own(tmp_path / "set.h5", np.float32, images=images, missing_pixels="nan")
    new = made(path)
    assert new.nan_is_missing and same(new.images.raw[:], images.astype(np.float32))  # type: ignore[union-attr]
    (tmp_path / "out.h5").unlink()
    (tmp_path / "set.h5").unlink()
    factors = FACTORS[:2]
    write(path, RNG.random((N, 1, H, W)), RNG.random((N, 2)) + 1, factors, {})
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 1
    assert made(path).factors == tuple(factors) and same(made_images(tmp_path), open_set(path).images[:])


def made_images(folder: Path) -> np.ndarray:
    return np.asarray(open_set(folder / "out.h5").images[:])


def test_the_user_says_otherwise(tmp_path: Path) -> None:
    """A logarithm from the lowest value on, fewer columns with their errors, a range, noise in place of weights."""
    weights = np.ones((1, 2, H, W), np.float32)
    weights[:, :, BAD] = 0
    path = own(tmp_path / "set.h5", weights=weights, factor_errors=np.ones((N, 3)))
    np.save(tmp_path / "noise.npy", np.full((N, 2, H, W), 0.5))
    new = made(
        path, "--columns", "mass,turn", "--log", "mass", "--range", "turn=-10:400", "--noise", f"{tmp_path}/noise.npy"
    )
    mass, turn = new.factors
    values = open_set(path).values
    assert mass == Factor("mass", "kg", values[:, 0].min(), values[:, 0].max(), "continuous", "log10")
    assert turn == Factor("turn", "deg", -10, 400, "periodic") and same(new.factor_errors, np.ones((N, 2)))
    assert same(np.array(new.weights), np.broadcast_to(4 * weights, (N, 2, H, W)))


@pytest.mark.parametrize(("words", "kept"), [((), True), (("--id", ""), False)])
def test_ids_of_a_set_can_be_left_behind(tmp_path: Path, words: tuple[str, ...], kept: bool) -> None:
    path = own(tmp_path / "set.h5", id=np.array([f"g{n}" for n in range(N)]))
    assert (made(path, *words).id is not None) == kept


@pytest.mark.parametrize("kind", ["npy", "png", "fits", "npz"])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_mask_for_all_images(tmp_path: Path, kind: str, channels: int) -> None:
    images = RNG.random((N, channels, H, W)).astype(np.float32)
    path, mask = tmp_path / "cube.npz", tmp_path / f"mask.{kind}"
    np.savez(path, images=images, radius=RNG.random(N), mask=BAD)
    name = str(mask)
    if kind == "npy":
        np.save(mask, BAD)
    elif kind == "png":
        pytest.importorskip("PIL.Image").fromarray(BAD.astype(np.uint8) * 255).save(mask)
    elif kind == "fits":
        fits = pytest.importorskip("astropy.io.fits")
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(BAD.astype(np.int16), name="DQ")]).writeto(mask)
        name += "[DQ]"
    else:
        name = f"{path}:mask"
    new = made(path, "--images", "images", "--layout", "NCHW", "--mask", name)
    assert same(new.images.raw[:], np.where(BAD, np.nan, images))  # type: ignore[union-attr]


def test_a_mask_of_spectra_and_one_for_each_image(tmp_path: Path) -> None:
    """Of as many images as rows, or rows as images, too."""
    spectra = RNG.random((N, 40)).astype(np.float32)
    np.save(tmp_path / "bad.npy", np.arange(40) < 7)
    np.savez(tmp_path / "s.npz", spectra=spectra)
    new = made(tmp_path / "s.npz", "--images", "spectra", "--layout", "NW", "--mask", str(tmp_path / "bad.npy"))
    assert same(new.images.raw[:, 0, 0], np.where(np.arange(40) < 7, np.nan, spectra))  # type: ignore[union-attr]
    (tmp_path / "out.h5").unlink()
    images, each = RNG.random((N, N, H, W)).astype(np.float32), RNG.random((N, H, W)) < 0.2
    np.savez(tmp_path / "c.npz", images=images)
    np.save(tmp_path / "bad.npy", each)
    new = made(tmp_path / "c.npz", "--images", "images", "--layout", "NCHW", "--mask", str(tmp_path / "bad.npy"))
    assert same(new.images.raw[:], np.where(each[:, None], np.nan, images))  # type: ignore[union-attr]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = catalogue(tmp_path, counts())
    np.save(tmp_path / "bad.npy", np.zeros((H + 1, W)))
    with pytest.raises(InputError, match=r"bad\.npy"):
        made(path, "--mask", str(tmp_path / "bad.npy"))


@pytest.mark.parametrize(("power", "unit"), [(-30, "1e-30"), (25, "1e+25")])
def test_weights_beyond_float32_are_told_with_the_unit_that_helps(tmp_path: Path, power: int, unit: str) -> None:
    """As those of fluxes in janskys of SI, W / m2 / Hz."""
    scale = 10.0**power
    np.savez(tmp_path / "a.npz", images=RNG.random((N, H, W)) * scale, noise=np.full((N, H, W), 1.2 * scale))
    said = f"noise in row 0: weights near .* float32 .* another unit, {re.escape(unit)} of theirs"
    with pytest.raises(InputError, match=said):
        made(tmp_path / "a.npz", "--images", "images", "--noise", "noise")
    assert not list(tmp_path.glob("out*"))


def test_so_large_a_noise_is_a_missing_pixel(tmp_path: Path) -> None:
    noise = np.where(BAD, 1e30, 2.0)
    np.savez(tmp_path / "a.npz", images=RNG.random((N, H, W)), noise=np.broadcast_to(noise, (N, H, W)))
    new = made(tmp_path / "a.npz", "--images", "images", "--noise", "noise")
    assert same(np.array(new.weights)[0, 0], np.where(BAD, 0, np.float32(0.25)))


def test_files_that_changed_are_not_mixed_with_what_was_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stamps").mkdir()
    for name, image in zip(IDS, counts()[:, 0], strict=True):
        np.save(tmp_path / "stamps" / f"{name}.npy", image)
    np.save(tmp_path / "bad.npy", BAD)
    path = write_csv(tmp_path / "cat.csv", id=IDS, file=[f"stamps/{name}.npy" for name in IDS])
    again = ["import", str(path), str(tmp_path / "out.h5"), "--processes", "1", "--mask", str(tmp_path / "bad.npy")]
    with monkeypatch.context() as patch:
        patch.setattr(work, "_store", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(again)
    for changed, new in ((tmp_path / "stamps" / f"{IDS[3]}.npy", counts()[3, 0] + 1), (tmp_path / "bad.npy", ~BAD)):
        kept = changed.read_bytes(), changed.stat()
        np.save(changed, new)
        with pytest.raises(InputError, match=r"left by an unfinished import with (files|sizes and times of files) = "):
            main(again)
        changed.write_bytes(kept[0])
        os.utime(changed, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))
    assert main(again) == 0

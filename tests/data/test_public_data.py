"""dSprites against frames of its published animation, Cars3D against its files, both through the format's validator."""

import functools
import hashlib
import itertools
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from skimage.draw import polygon

from helpers.places import DATA, ROOT
from hpcauxvae.data import cars3d, dsprites
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, validate
from hpcauxvae.types import InputError


def needs(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not there (HPCAUXVAE_TEST_DATA names the folder)")
    return DATA / name


def walk() -> list[tuple[str, int, int, int, int]]:
    """Shape, scale, orientation, x and y (numbers of their values) of the frames of the published animation."""
    frames = []
    for shape in ("heart", "ellipse", "square"):
        frames += [(shape, s, 0, 0, 0) for s in (*range(6), *range(5, -1, -1), *range(6))]
        frames += [(shape, 5, o, 0, 0) for o in range(40)]
        if shape == "heart":
            along = range(32)
            frames += [(shape, 5, 39, 0, y) for y in along] + [(shape, 5, 39, x, 31) for x in along]
            frames += [(shape, 5, 39, 31, y) for y in along[::-1]] + [(shape, 5, 39, x, 0) for x in along[::-1]]
        frames += [(shape, s, 39, 0, 0) for s in range(5, -1, -1)]
    return frames


def test_every_frame_of_the_published_animation_is_drawn_exactly() -> None:
    with Image.open(needs("dsprites.gif")) as gif:
        published = []
        for number in range(gif.n_frames):
            gif.seek(number)
            published.append(np.asarray(gif.convert("L")) // 255)
    assert len(published) == len(walk()) == 320
    draw = functools.cache(dsprites.draw)
    for number, ((shape, s, o, x, y), frame) in enumerate(zip(walk(), published, strict=True)):
        drawn = draw(shape, dsprites.SCALES[s], dsprites.ORIENTATIONS[o])[x, y]
        assert np.array_equal(drawn, frame), f"frame {number}: {shape}, scale {s}, orientation {o}, x {x}, y {y}"


@pytest.mark.parametrize("shape", dsprites.SHAPES)
def test_positions_are_filled_as_scikit_image_fills_them(shape: str) -> None:
    """The animation shows one orientation at most positions; here another."""
    scale, angle = 0.7, 1.1
    drawn = dsprites.draw(shape, scale, angle)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for x, y in ((0, 0), (13, 30), (31, 5)):
        centre = 16 + 32 * np.array([x, y]) / 31
        corners = np.round((dsprites.outline(shape) * scale @ turn + centre) * 256) / 256 - 0.5
        expected = np.zeros((64, 64), np.uint8)
        expected[polygon(corners[:, 1], corners[:, 0], (64, 64))] = 1
        assert np.array_equal(drawn[x, y], expected)


@pytest.mark.slow
def test_all_images_have_the_hash_that_the_page_gives() -> None:
    page = (ROOT / "docs" / "data-format.md").read_text()
    (given,) = re.findall(r"SHA-256\s+`([^`]*)`", page)
    digest = hashlib.sha256()
    for sheet in itertools.product(dsprites.SHAPES, dsprites.SCALES, dsprites.ORIENTATIONS):
        digest.update(dsprites.draw(*sheet).tobytes())
    assert digest.hexdigest() == given


def test_a_part_of_dsprites_is_the_same_images_as_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "ellipses.h5"
    assert main(["dsprites", str(out), "--shapes", "ellipse", "--n", "40", "--seed", "4"]) == 0
    assert validate(out) == []
    data = open_set(out)
    assert data.images.dtype == np.uint8 and data.shape == (1, 64, 64)
    assert [f.name for f in data.factors][:4] == ["scale", "orientation", "x", "y"]
    scale, orientation, x, y, modulo, cos, sin = data.values.T
    for i in range(0, 40, 8):
        drawn = dsprites.draw("ellipse", scale[i], orientation[i])[round(x[i] * 31), round(y[i] * 31)]
        assert np.array_equal(data.images[i, 0], drawn)
    assert np.sin(modulo - orientation) == pytest.approx(0, abs=1e-9)
    assert modulo.min() >= 0 and modulo.max() < math.pi - 0.01 and orientation.max() > 4
    assert np.allclose(np.exp(2j * orientation), cos + 1j * sin)


@pytest.mark.parametrize("shapes", [("heart",), ("square", "ellipse", "heart")])
def test_labels_are_drawn_as_the_images_that_they_belong_to(tmp_path: Path, shapes: tuple) -> None:
    dsprites.write(tmp_path / "some.h5", shapes=shapes, n=20)
    data = open_set(tmp_path / "some.h5")
    for angle in ("orientation", "orientation_mod", "orientation_cos"):
        drawn = dsprites.images_of(data.values, [factor.name for factor in data.factors], "heart", angle)
        # Another of the angles that look the same: corners are rounded, to 1/256 of a pixel.
        assert (drawn != data.images).sum((1, 2, 3)).max() <= (0 if angle == "orientation" else 4)


def test_the_published_archive_is_read_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with 2 x 2 positions instead of 32 x 32: the real one is 3 GB in memory."""
    monkeypatch.setattr(dsprites, "POSITIONS", np.linspace(0, 1, 2))
    monkeypatch.setattr(dsprites, "COUNTS", (3, 6, 40, 2, 2))
    archive = tmp_path / dsprites.ARCHIVE
    images = np.zeros((math.prod(dsprites.COUNTS), 64, 64), np.uint8)
    images[6 * 40 * 4 + 5, 3, 4] = 1  # the sixth ellipse
    np.savez_compressed(archive, imgs=images)
    dsprites.write(tmp_path / "out.h5", shapes=["ellipse", "heart"], n=None, archive=archive)
    data = open_set(tmp_path / "out.h5")
    assert np.argwhere(data.images[:10]).tolist() == [[5, 0, 3, 4]]
    assert data.factors[0].kind == "categorical" and sorted(set(data.values[:, 0])) == [1, 2]
    assert data.values[5, 1:5] == pytest.approx([0.5, 2 * math.pi / 39, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shapes": ["circle"]}, "'circle' is unknown; allowed: square, ellipse, heart"),
        ({"n": 1}, "n = 1; allowed: 2 to 737280"),
        ({"n": 9, "seed": -1}, "seed = -1; allowed: 0 to 9223372036854775807"),
        ({"n": 9, "seed": 2**63}, "seed = 9223372036854775808; allowed: 0 to"),
        ({"archive": Path(__file__)}, "test_public_data.py: is not dsprites_ndarray"),
    ],
)
def test_bad_requests_for_dsprites_are_named(tmp_path: Path, arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        dsprites.write(tmp_path / "out.h5", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_damaged_archives_of_dsprites_are_named(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 64, 64), np.uint8)
    np.savez_compressed(tmp_path / "whole.npz", imgs=images)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-1000])
    (tmp_path / "changed.npz").write_bytes(whole[:5000] + bytes(300) + whole[5300:])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", images)
    np.savez(tmp_path / "other.npz", pictures=images)
    for name in ("cut.npz", "changed.npz", "empty.npz", "array.npy", "other.npz"):
        with pytest.raises(InputError, match=rf"{name}: is not dsprites_ndarray.*, or is damaged: "):
            dsprites.write(tmp_path / "out.h5", archive=tmp_path / name)
    with pytest.raises(InputError, match=r"imgs is uint8 \(40, 64, 64\); expected uint8 \(737280, 64, 64\)"):
        dsprites.write(tmp_path / "out.h5", archive=tmp_path / "whole.npz")
    assert not (tmp_path / "out.h5").exists()


def test_damaged_cars_are_named(tmp_path: Path) -> None:
    im = np.random.default_rng(0).integers(0, 255, (8, 8, 3, 24, 4), np.uint8)
    path = tmp_path / "car.mat"
    savemat(path, {"im": im}, do_compression=True)
    whole = path.read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:60], whole[:3000] + bytes(300) + whole[3300:], b""]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"car\.mat: is not a Cars3D file, or is damaged: "):
            cars3d.write(tmp_path / "out.h5", tmp_path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(InputError, match=r"car\.mat: is a file of MATLAB 7\.3; allowed: earlier forms"):
        cars3d.write(tmp_path / "out.h5", tmp_path)
    savemat(path, {"im": im / 255})
    with pytest.raises(InputError, match=r"im is float64 \(8, 8, 3, 24, 4\); expected uint8 \(rows, columns, 3"):
        cars3d.write(tmp_path / "out.h5", tmp_path)
    savemat(path, {"im": "text"})
    with pytest.raises(InputError, match=r"im is <U4 \(1,\); expected uint8"):
        cars3d.write(tmp_path / "out.h5", tmp_path)


def test_cars_that_are_missing_are_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    im = np.full((8, 8, 3, 24, 4), 255, np.uint8)
    for number in range(3):
        savemat(tmp_path / f"car_{number:03}.mat", {"im": im})
    images = np.zeros((183, 24, 4, 64, 64, 3), np.uint8)
    for name, n in (("part.h5", 182), ("whole.h5", 183)):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("images", data=images[:n], compression="gzip", chunks=(1, *images.shape[1:]))
    part, whole = tmp_path / "part.h5", tmp_path / "whole.h5"
    for source, cars, n, said in (
        (tmp_path, None, 3, f"warning: {tmp_path}: has 3 of 183 cars\n"),
        (tmp_path, 200, 3, f"warning: {tmp_path}: has 3 of 183 cars\n"),
        (tmp_path, 4, 3, f"warning: {tmp_path}: has 3 of 4 cars\n"),
        (tmp_path, 3, 3, ""),
        (part, None, 182, f"warning: {part}: has 182 of 183 cars\n"),
        (part, 2, 2, ""),
        (whole, None, 183, ""),
    ):
        assert len(cars3d.read(source, cars)) == n
        assert capsys.readouterr() == ("", said)


def test_cars_from_mat_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    views = np.full((2, 128, 128, 3, 24, 4), 255, np.uint8)
    views[0, 48:80, :, :, 7, 2] = 10  # a quarter of the picture, and what LANCZOS adds at its rim
    views[1, :, :64, :, :, :] = rng.integers(0, 200, (128, 64, 3, 24, 4))
    for number, im in enumerate(views):
        savemat(tmp_path / f"car_{number:03}.mat", {"im": im})
    out = tmp_path / "cars.h5"
    assert main(["cars3d", str(tmp_path), str(out)]) == 0
    assert validate(out) == []
    data = open_set(out)
    assert len(data) == 2 * 24 * 4 and data.shape == (3, 64, 64)
    named = dict(zip((f.name for f in data.factors), data.values[7 * 4 + 2], strict=True))
    assert named == pytest.approx(
        {"elevation": 12, "azimuth": 105, "car": 0, "area": 0.26, "azimuth_cos": -0.2588, "azimuth_sin": 0.9659},
        abs=0.04,
    )
    assert data.images[7 * 4 + 2, 0, 32, 2] == 10 and data.images[7 * 4 + 2, 0, 2, 32] == 255
    assert data.images[7 * 4 + 1, 0, 32, 32] == 255
    assert np.ptp(data.images[100, :, 30, 5].astype(int)) > 0, "colours are kept apart"


@pytest.mark.slow
def test_cars_from_the_whole_set(tmp_path: Path) -> None:
    out = tmp_path / "cars.h5"
    cars3d.write(out, needs("cars3d.h5"))
    data = open_set(out)
    assert len(data) == 183 * 24 * 4
    azimuth = data.values[:, 1].reshape(183, 24, 4)
    assert (azimuth == azimuth[:1, :, :1]).all() and data.factors[2].high == 182


def test_a_folder_without_cars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no \.mat files"):
        cars3d.write(tmp_path / "out.h5", tmp_path)
    (tmp_path / "x.mat").write_bytes(b"not a mat file")
    with pytest.raises(InputError, match=r"x\.mat: is not a Cars3D file"):
        cars3d.write(tmp_path / "out.h5", tmp_path)
    with pytest.raises(InputError, match=r"neither a folder of \.mat files nor an HDF5 file"):
        cars3d.write(tmp_path / "out.h5", Path(__file__))

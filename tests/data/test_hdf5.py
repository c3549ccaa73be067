"""The file format: what is written is read back as h5py sees it, and every broken rule is named."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.set_files import FACTORS, SHAPE, F, N, assert_refused, content, rewrite_images
from hpcauxvae.data import stored
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import StoredImages, check_pixels, create, open_set, validate, write
from hpcauxvae.types import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    path = tmp_path / "set.h5"
    write(path, *content(), FACTORS, {"seed": 7, "command": "none"})
    return path


def test_what_is_written_is_what_h5py_reads(path: Path) -> None:
    images, factors = content()
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 1 and file.attrs["seed"] == 7
        assert file["images"].dtype == np.float32 and file["images"].chunks is None
        assert file["factors"].dtype == np.float64
        np.testing.assert_array_equal(file["images"][:], images)
        np.testing.assert_array_equal(file["factors"][:], factors)
        assert list(file["factors"].attrs["name"]) == ["mass", "spin", "age"]
        assert list(file["factors"].attrs["unit"]) == ["kg", "", "Gyr"]
        assert list(file["factors"].attrs["high"]) == [20, 1, 4]


def test_open_set(path: Path) -> None:
    images, factors = content()
    data = open_set(path)
    assert isinstance(data.images, np.memmap) and not data.images.flags.writeable and data.images.flags.aligned
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.values, factors)
    assert (len(data), data.shape, data.factors) == (N, SHAPE[1:], FACTORS)
    assert data.provenance == {"seed": 7, "command": "none"}
    scaled = np.stack([(factors[:, 0] - 10) / 10, (factors[:, 1] + 1) / 2, factors[:, 2] / 4], axis=1)
    np.testing.assert_allclose(data.scaled(), scaled, rtol=1e-14)
    check_pixels(data)
    assert validate(path) == []


def test_a_set_that_is_open_already(path: Path) -> None:
    """As in a notebook: whoever looks at a set by h5py can train on it."""
    with h5py.File(path):
        assert len(open_set(path)) == N


def test_column(path: Path) -> None:
    data = open_set(path)
    assert data.column(["age", "mass"]) == [2, 0]
    with pytest.raises(InputError, match=r"set\.h5: factor 'size' is unknown; known are mass, spin, age"):
        data.column(["mass", "size"])
    with pytest.raises(InputError, match="factor 'spin' is given more than once in spin,age,spin"):
        data.column(["spin", "age", "spin"])


def test_fingerprint_is_of_the_content(tmp_path: Path, path: Path) -> None:
    images, factors = content()
    fingerprint = open_set(path).fingerprint
    write(tmp_path / "same.h5", images, factors, FACTORS, {"other": 1})
    assert open_set(tmp_path / "same.h5").fingerprint == fingerprint
    factors[9, 0] += 1e-9
    write(tmp_path / "label.h5", images, factors, FACTORS, {})
    images[11, 0, 0, 0] += 1e-3
    write(tmp_path / "pixel.h5", images, content()[1], FACTORS, {})
    assert (
        len({fingerprint, open_set(tmp_path / "label.h5").fingerprint, open_set(tmp_path / "pixel.h5").fingerprint})
        == 3
    )


def test_text_of_fixed_length(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["factors"].attrs["name"] = np.array([b"mass", b"spin", b"age"])
        file["factors"].attrs["low"] = [10, -1, 0]
        file.attrs["origin"] = np.bytes_("a C program")
    assert open_set(path).factors == FACTORS and open_set(path).provenance["origin"] == "a C program"


def test_chunked_images_in_any_order(path: Path) -> None:
    rewrite_images(path, chunks=(3, 2, 4, 5), compression="gzip")
    stored = open_set(path).images
    assert isinstance(stored, StoredImages) and len(stored) == N and stored.shape == SHAPE
    images = content()[0]
    for index in (5, -1, slice(3, 9), np.array([7, 2, 7, -1, 0]), [4, 3], np.arange(N) % 2 == 0, np.array([], int)):
        np.testing.assert_array_equal(stored[index], images[index])
    with pytest.raises(IndexError):
        stored[np.array([0, N])]


def test_pieces_are_the_images_of_their_numbers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all, of neighbours and of an index in any order, as an array and through h5py."""
    images, once = content()[0], 3
    monkeypatch.setattr(stored, "_PIECE_BYTES", 4 * once * images[0].size)
    rewrite_images(path, chunks=(3, 2, 4, 5), compression="gzip")
    for source in (images, open_set(path).images):
        for wanted in (None, range(2, 9), np.array([7, 0, 5, 1, 7])):
            numbers, parts = zip(*stored.in_pieces(source, wanted), strict=True)
            assert [len(part) for part in parts[:-1]] == [once] * (len(parts) - 1) and len(parts[-1]) <= once
            rows = range(N) if wanted is None else wanted
            np.testing.assert_array_equal(np.concatenate(numbers), rows)
            np.testing.assert_array_equal(np.concatenate(parts), images[rows])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def drop(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def replace(name: str, data: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = data
        file[name].attrs.update(attributes)

    return change


def cell(name: str, at: tuple[int, ...], value: float) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(at, value)


def column(number: int, value: float) -> Callable[[h5py.File], None]:
    return lambda file: file["factors"].__setitem__((slice(None), number), value)


def attribute(field: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file["factors"].attrs.__setitem__(field, value)


BROKEN: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "version": (lambda f: f.attrs.__setitem__("format_version", 9), "attribute format_version: 9 is not 1"),
    "no version": (lambda f: f.attrs.__delitem__("format_version"), "attribute format_version: None is not 1"),
    "no images": (drop("images"), "images: missing; needs a data set (N, C, H, W)"),
    "no factors": (drop("factors"), "factors: missing; needs a data set (N, F)"),
    "three axes": (replace("images", np.zeros((N, 4, 5), "f4")), "images: shape (20, 4, 5) is not (N, C, H, W)"),
    "empty axis": (replace("images", np.zeros((N, 1, 0, 5), "f4")), "images: shape (20, 1, 0, 5) is not (N, C, H, W)"),
    "images type": (replace("images", np.zeros(SHAPE)), "images: type float64 is not float32"),
    "factors type": (replace("factors", np.ones((N, F), "f4")), "factors: type float32 is not float64"),
    "length": (replace("images", np.zeros((N - 1, 1, 4, 5), "f4")), "images: 19 samples, but factors has 20"),
    "names": (attribute("name", ["a", "b"]), "factors, attribute name: ['a' 'b'] is not a list of 3"),
    "number as name": (attribute("name", [1, 2, 3]), "factors, attribute name: [1 2 3] is not a list of 3 texts"),
    "text as range": (
        attribute("low", ["a", "b", "c"]),
        "factors, attribute low: ['a' 'b' 'c'] is not a list of 3 numbers",
    ),
    "no unit": (lambda f: f["factors"].attrs.__delitem__("unit"), "factors, attribute unit: None is not a list of 3"),
    "same name": (attribute("name", ["a", "b", "a"]), "factors, attribute name: 'a' is not allowed"),
    "comma": (attribute("name", ["a", "b,c", "d"]), "factors, attribute name: 'b,c' is not allowed"),
    "range": (attribute("low", [10.0, 1.0, 0.0]), "factors, spin: range 1.0 to 1.0 is not allowed; low < high"),
    "infinite range": (attribute("high", [np.inf, 1.0, 4.0]), "factors, mass: range 10.0 to inf is not allowed"),
    "outside": (cell("factors", (6, 0), 20.5), "factors, mass: 20.5 of sample 6 is outside its range 10.0 to 20.0 kg"),
    "infinite": (cell("factors", (8, 1), np.inf), "factors, spin: inf of sample 8 is outside its range -1.0 to 1.0"),
    "constant": (column(1, 0.25), "factors, spin: constant (0.25); a factor must vary"),
    "unmeasured": (column(0, np.nan), "factors, mass: no sample has a value"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_rule(path: Path, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    change, message = BROKEN[fault]
    with h5py.File(path, "r+") as file:
        change(file)
    assert_refused(path, message, capfd)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        open_set(path)


def test_one_sample(tmp_path: Path) -> None:
    images, factors = content()
    with pytest.raises(InputError, match=r"images: 1 samples; at least 2 are needed"):
        write(tmp_path / "one.h5", images[:1], factors[:1], FACTORS, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixel_that_is_not_finite(
    path: Path, value: float, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_PIECE_BYTES", 4 * 4 * 2 * 4 * 5)  # four images
    with h5py.File(path, "r+") as file:
        file["images"][13, 1, 2, 3] = value
        file["images"][17, 0] = value
    message = f"images: {value} in sample 13, channel 1, pixel (2, 3) is not finite (2 of 20 samples have such pixels)"
    assert_refused(path, message, capfd)
    with pytest.raises(InputError, match=re.escape(message)):
        check_pixels(open_set(path))


def test_every_fault_is_named_at_once(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["factors"][:, 1] = 0.5
        file["factors"][2, 0] = 9
        file["images"][0] = np.nan
    assert [error.split(": ")[1] for error in validate(path)] == ["factors, mass", "factors, spin", "images"]


def test_files_that_are_not_whole(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut(path)
    (tmp_path / "text.h5").write_text("not HDF5")
    assert_refused(path, "cannot be read as HDF5: ", capfd)
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 4, 5)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros((3, 4, 5))
    for name in ("text.h5", "x.npz", "other.h5"):
        with pytest.raises(InputError, match=rf"{name}: .*; `hpcauxvae data import` makes a set of images in other"):
            open_set(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot be read as HDF5: [^`]*$"):
        open_set(path)
    assert_refused(tmp_path / "text.h5", "cannot be read as HDF5: ", capfd)
    assert_refused(tmp_path / "none.h5", "no such file", capfd)


def test_check_describes_a_good_file(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 0
    out = capfd.readouterr().out
    assert "20 images of 2x4x5" in out and "mass: 10 to 20 kg" in out and "seed = 7" in out


def test_check_shows_whole_numbers_with_all_digits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images, values = content()
    objects = (FACTORS[0]._replace(low=0, high=123456789), *FACTORS[1:])
    write(tmp_path / "set.h5", images, values, objects, {})
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    assert "mass: 0 to 123456789 kg" in capfd.readouterr().out


def test_write_refuses(path: Path, tmp_path: Path) -> None:
    images, factors = content()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"set\.h5: exists already"):
        write(path, images, factors, FACTORS, {})
    assert path.read_bytes() == before
    new = tmp_path / "new.h5"
    with pytest.raises(InputError, match=r"factors: shape \(20, 3\) is not \(N, F\) = \(20, 2\)"):
        write(new, images, factors, FACTORS[:2], {})
    with pytest.raises(InputError, match=r"images: shape \(20, 40\) is not \(N, C, H, W\)"):
        write(new, images.reshape(N, -1), factors, FACTORS, {})
    with pytest.raises(InputError, match=r"folder .*none does not exist"):
        write(tmp_path / "none" / "new.h5", images, factors, FACTORS, {})
    images[3, 0, 1, 1] = np.nan
    with pytest.raises(InputError, match="images: nan in sample 3"):
        write(new, images, factors, FACTORS, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.h5"]


def test_create_shows_the_file_only_when_whole(tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    with create(new, SHAPE, FACTORS, {}) as (images, factors):
        images[:], factors[:] = content()
        assert not new.exists()
    assert validate(new) == []
    with pytest.raises(ZeroDivisionError), create(tmp_path / "other.h5", SHAPE, FACTORS, {}):
        _ = 1 / 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.h5"]


def test_what_create_was_not_given_reads_as_nan(tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    with create(new, SHAPE, FACTORS, {}) as (images, factors):
        images[:12], factors[:] = content()[0][:12], content()[1]
    assert "images: nan in sample 12" in validate(new)[0] and "(8 of 20 samples" in validate(new)[0]


WRITE_LARGE = """
import sys, numpy as np
from hpcauxvae.data.hdf5 import create
from hpcauxvae.types import Factor, InputError
try:
    with create(sys.argv[1], (200, 1, 33, 33), [Factor("a", "", 0, 1)], {}) as (images, factors):
        factors[:] = np.random.rand(200, 1)
        for row in range(200):
            images[row] = 0
            print(row, flush=True)
            sys.stdin.readline()
except InputError as error:
    sys.exit(str(error))
"""


def test_kill_while_writing_leaves_no_file(tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    command = [sys.executable, "-c", WRITE_LARGE, str(new)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGKILL)
    assert not new.exists()
    write(new, *content(), FACTORS, {})


def test_full_disk(tmp_path: Path) -> None:
    """A limit on file size stands for the disk: 200 stamps need 871 kB."""
    command = [
        "bash",
        "-c",
        'ulimit -f 400; exec "$@"',
        "bash",
        sys.executable,
        "-c",
        WRITE_LARGE,
        str(tmp_path / "new.h5"),
    ]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, f"{tmp_path / 'new.h5'}: cannot be written: File too large\n")
    assert list(tmp_path.iterdir()) == []

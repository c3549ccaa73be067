"""Designs, parts, shards, merge and verify: every way to one set gives the same set, and every damage is named."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.stats import qmc

from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.data.hdf5 import open_set, validate

pytest.importorskip("galsim", reason="galsim is not installed: pip install 'hpcauxvae[simulate]'")
from hpcauxvae.simulate import designs
from hpcauxvae.simulate.command import main

NAMES = [factor.name for factor in FACTORS]
N = 150


def here(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def make(path: Path, *arguments: object) -> Path:
    assert here(path, *arguments) == 0
    return path


def refuse(capfd: pytest.CaptureFixture[str], arguments: tuple[object, ...], *messages: str) -> None:
    """Exit code 2 and one line on stderr."""
    capfd.readouterr()
    code = here(*arguments)
    captured = capfd.readouterr()
    assert (code, captured.out) == (2, ""), captured
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
    assert all(message in captured.err for message in messages), captured.err


def content(path: Path) -> tuple[bytes, bytes]:
    data = open_set(path)
    return np.asarray(data.images[:]).tobytes(), data.values.tobytes()


def block_checksums(path: Path) -> list[int]:
    with h5py.File(path) as file:
        return file["checksums"][:].tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Sobol set at once."""
    return make(tmp_path_factory.mktemp("whole") / "set.h5", "--n", N, "--seed", 3, "--design", "sobol")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in three shards."""
    path = tmp_path_factory.mktemp("shards") / "set.h5"
    return make(path, "--n", N, "--seed", 3, "--design", "sobol", "--chunk", 20, "--shard-size", 60)


def test_a_sobol_set_is_scipys_sequence(whole: Path) -> None:
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3, spawn_key=(0,))))
    unit = qmc.Sobol(5, scramble=True, bits=32, rng=stream).random(256)[:N]
    low, high = (np.array([getattr(f, end) for f in FACTORS]) for end in ("low", "high"))
    np.testing.assert_allclose(open_set(whole).values, low + unit * (high - low), rtol=1e-14)


@pytest.mark.parametrize("design", ["sobol", "uniform"])
def test_designs_that_extend(design: str) -> None:
    draw = designs.DESIGNS[design]
    whole = draw(1000, 5, 0, 1000, 4)
    np.testing.assert_array_equal(draw(300, 5, 0, 300, 4), whole[:300])
    np.testing.assert_array_equal(draw(1000, 5, 300, 777, 4), whole[300:777])
    assert (draw(1000, 6, 0, 1000, 4) != whole).all()
    assert (whole >= 0).all() and (whole < 1).all() and np.abs(whole.mean(0) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(whole.T)[np.triu_indices(4, 1)]).max() < 0.12


def test_shards_hold_the_same(whole: Path, shards: Path, tmp_path: Path) -> None:
    assert content(shards) == content(whole) and validate(shards) == []
    assert sorted(path.name for path in (shards.parent / "set.h5.shards").iterdir()) == [f"0000{n}.h5" for n in "012"]
    moved = tmp_path / "elsewhere"
    shutil.copytree(shards.parent, moved)  # names in it are relative
    assert content(moved / "set.h5") == content(whole)
    assert [path.name for path in sorted(shards.parent.iterdir())] == ["set.h5", "set.h5.shards"]


def test_merge_of_shards_parts_and_an_extension(whole: Path, shards: Path, tmp_path: Path) -> None:
    common = ("--seed", 3, "--design", "sobol")
    first = make(tmp_path / "a.h5", "--n", 70, *common)
    second = make(tmp_path / "b.h5", "--n", N, "--start", 70, "--stop", 110, "--shard-size", 20, "--chunk", 7, *common)
    before = first.read_bytes()
    third = (
        make(tmp_path / "c.h5", "--extend", tmp_path / "ab.h5", "--n", N) if merged(tmp_path, first, second) else None
    )
    assert third is not None and first.read_bytes() == before
    for out, parts, flag in (
        ("shards.h5", [shards], ()),
        ("copied.h5", [third, first, second], ()),
        ("virtual.h5", [second, third, first], ("--virtual",)),
    ):
        path = tmp_path / out
        assert here("merge", path, *parts, *flag) == 0
        assert content(path) == content(whole), out
        assert block_checksums(path) == block_checksums(whole)
        assert validate(path) == [] and here("verify", path, "--sample", 10) == 0
    assert open_set(tmp_path / "virtual.h5").provenance["start"] == 0


def merged(folder: Path, *parts: Path) -> bool:
    return here("merge", folder / "ab.h5", *parts) == 0


def test_what_does_not_fit_together(whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.h5"
    cube = make(tmp_path / "cube.h5", "--n", 40, "--stop", 20)
    larger = make(tmp_path / "larger.h5", "--n", 60, "--start", 20)
    same = make(tmp_path / "same.h5", "--n", 40, "--start", 20)
    gap = make(tmp_path / "gap.h5", "--n", 40, "--start", 22)
    other = make(tmp_path / "other.h5", "--n", 40, "--start", 20, "--seed", 1)
    refuse(capfd, ("merge", out), "parts: none is named; allowed: one or more sets")
    refuse(capfd, ("merge", out, cube, larger), "larger.h5: latin-hypercube of 60 points, but", "does not extend")
    refuse(capfd, ("merge", out, cube, gap), "gap.h5: begins at galaxy 22 of the design, but 20 comes next")
    refuse(capfd, ("merge", out, cube, same, same), "same.h5: begins at galaxy 20 of the design, but 40 comes next")
    refuse(capfd, ("merge", out, cube, other), "other.h5: seed = 1, but", "has 0")
    refuse(capfd, (out, "--extend", cube, "--n", 60), "a latin-hypercube of 40 points cannot be extended", "sobol")
    refuse(capfd, (out, "--extend", whole, "--n", N), f"ends at galaxy {N}; allowed is {N + 2} or more")
    refuse(capfd, (out, "--extend", whole, "--n", 200, "--seed", 1), "--seed 1: not allowed beside --extend")
    assert not out.exists()
    assert here("merge", out, cube, same) == 0
    assert content(out) == content(make(tmp_path / "at-once.h5", "--n", 40))


def write_table(path: Path, values: np.ndarray) -> None:
    """The same factors as CSV, FITS or HDF5, with a column more and in another order."""
    columns = {"id": np.arange(len(values)), **dict(zip(NAMES[::-1], values.T[::-1], strict=True))}
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    elif path.suffix == ".fits":
        from astropy.table import Table

        Table(columns).write(path)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column


@pytest.mark.parametrize("kind", [".csv", ".fits", ".h5"])
def test_a_table_of_factors(whole: Path, tmp_path: Path, kind: str) -> None:
    table = tmp_path / f"table{kind}"
    write_table(table, open_set(whole).values)
    assert content(make(tmp_path / "set.h5", "--table", table, "--seed", 3)) == content(whole)


def test_a_table_goes_on_with_more_rows(whole: Path, tmp_path: Path) -> None:
    values = open_set(whole).values
    write_table(tmp_path / "short.csv", values[:50])
    write_table(tmp_path / "long.csv", values)
    first = make(tmp_path / "a.h5", "--table", tmp_path / "short.csv", "--seed", 3)
    second = make(tmp_path / "b.h5", "--table", tmp_path / "long.csv", "--start", 50, "--seed", 3)
    assert here("merge", tmp_path / "ab.h5", first, second) == 0
    assert content(tmp_path / "ab.h5") == content(whole)
    assert content(make(tmp_path / "c.h5", "--table", whole, "--seed", 3)) == content(whole)  # a set is a table too


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({(7, "radius"): "1.5"}, ("row 7: radius = 1.5 is outside 0.1 to 1 arcsec (1 such rows)", "--ranges radius=")),
        ({(3, "psf"): "wide"}, ("psf: 'wide' in row 3 is no number",)),
        ({(3, "flux"): ""}, ("row 3: flux = nan is outside 10000 to 100000 counts",)),
        ({(4, "g1"): "nan"}, ("row 4: g1 = nan is outside -0.5 to 0.5",)),
        ({(-1, "g2"): "shear"}, ("no column g2; has flux, radius, g1, shear, psf",)),
    ],
)
def test_bad_tables(
    tmp_path: Path, change: dict[tuple[int, str], str], messages: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    lines = [NAMES.copy(), *(list(map(str, line)) for line in designs.rows("uniform", 10, 0, 0, 10, FACTORS))]
    for (row, name), text in change.items():  # row -1 is the header
        lines[row + 1][NAMES.index(name)] = text
    table.write_text("".join(",".join(line) + "\n" for line in lines))
    refuse(capfd, (tmp_path / "out.h5", "--table", table), f"{table}: {messages[0]}", *messages[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_column_of_text_in_an_hdf5_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.h5"
    with h5py.File(table, "w") as file:
        for name in NAMES:
            file[name] = ["wide"] if name == "psf" else [0.2]
    refuse(capfd, (tmp_path / "out.h5", "--table", table), f"{table}: psf: 'wide' in row 0 is no number")


@pytest.mark.parametrize("name", ["t.csv", "t.fits", "t.h5"])
def test_unreadable_tables(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / name
    refuse(capfd, (tmp_path / "out.h5", "--table", table), f"{table}: no such file")
    table.write_bytes(b"\xff\xfe\x00 nothing of the kind")
    kind = {"t.csv": "CSV", "t.fits": "FITS", "t.h5": "HDF5"}[name]
    refuse(capfd, (tmp_path / "out.h5", "--table", table), f"{table}: cannot be read as {kind}")


def test_shear_of_one_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = designs.rows("uniform", 10, 0, 0, 10, FACTORS)
    values[6, 2:4] = 0.8, -0.6
    write_table(tmp_path / "t.csv", values)
    command = (tmp_path / "out.h5", "--table", tmp_path / "t.csv", "--ranges", "g1=-1:1,g2=-1:1")
    refuse(capfd, command, "t.csv: |g| = 1.0 of sample 6 cannot be drawn; allowed: below 1")


def copy_of(shards: Path, folder: Path) -> Path:
    shutil.copytree(shards.parent, folder)
    return folder / "set.h5"


def delete(shard: Path) -> None:
    shard.unlink()


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-50_000])


def flip(shard: Path) -> None:
    with h5py.File(shard) as file:
        offset = file["images"].id.get_offset() + 4 * (25 * 1089 + 500)  # sample 25 of the shard
    stored = bytearray(shard.read_bytes())
    stored[offset] ^= 1
    shard.write_bytes(stored)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (delete, "00001.h5: no such file"),
        (truncate, "00001.h5: cannot be read as HDF5"),
        (flip, "images: samples 80 to 99 (shard"),
    ],
)
def test_damaged_shards_are_named(
    shards: Path, tmp_path: Path, harm: Callable[[Path], None], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = copy_of(shards, tmp_path / "set")
    harm(path.parent / "set.h5.shards" / "00001.h5")
    (error,) = validate(path)
    assert message in error and "00001.h5" in error
    refuse(capfd, ("verify", path), message)
    refuse(capfd, ("merge", tmp_path / "out.h5", path), "00001.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_verify_draws_again(whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A set whose checksums hold, and whose record is another's."""
    path = tmp_path / "set.h5"
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as file:
        file.attrs["seed"] = 4
    refuse(capfd, ("verify", path, "--sample", 5), f"{path}: sample ", "is not what its record draws")
    refuse(capfd, ("verify", whole, "--sample", 0), "--sample 0: allowed is 1 or more")


def test_a_kill_between_shards_and_the_set(shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The folder of shards already moved, the set not yet written."""
    command = ("--n", N, "--seed", 3, "--design", "sobol", "--chunk", 20, "--shard-size", 60)
    out = tmp_path / "set.h5"
    shutil.copytree(shards.parent / "set.h5.shards", tmp_path / "set.h5.shards")
    refuse(capfd, (out, *command), "set.h5.shards: exists already")
    import hpcauxvae.simulate.storage as storage

    make = storage.new_file

    def stop(path: Path, *arguments: Any) -> Any:
        if path == out:
            raise KeyboardInterrupt
        return make(path, *arguments)

    shutil.rmtree(tmp_path / "set.h5.shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "new_file", stop)
        assert here(out, *command) == 130
    assert not out.exists() and (tmp_path / "set.h5.shards").exists()
    assert here(out, *command) == 0
    assert f"{N} galaxies, 0 drawn now" in capfd.readouterr().out
    assert content(out) == content(shards) and not (tmp_path / "set.h5.parts").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--chunk", 0), "--chunk 0: allowed is 1 or more"),
        (("--shard-size", -1), "--shard-size -1: allowed is 0 or more"),
        (("--start", 5, "--stop", 6), "--start 5 --stop 6: allowed is 0 <= start"),
        (("--stop", 20_000), "--start 0 --stop 20000: allowed is"),
        (("--ranges", "mass=0:1"), "--ranges mass=0:1: factor 'mass' is unknown; known are flux, radius"),
        (("--ranges", "psf=1:0"), "--ranges psf=1:0: allowed is LOW < HIGH"),
        (("--ranges", "psf=wide"), "--ranges psf=wide: allowed is NAME=LOW:HIGH"),
        (("--ranges", "radius=-1:1"), "--ranges radius=-1:1: radius = "),
        (("--stamp-size", 4), "--stamp-size 4: allowed is 8 to 1024 pixels"),
        (("--pixel-scale", 0), "--pixel-scale 0.0: allowed is above 0 arcsec"),
        (("--sky", -1), "--sky -1.0: allowed is 0 counts or more"),
        (("--bands", "g,g"), "--bands g,g: each needs a name of its own"),
        (("--profile", "real"), "--profile real: needs --catalogue"),
        (("--catalogue", "x.fits"), "draws from no catalogue"),
        (("--profile", "real", "--catalogue", "no/such.fits"), "cannot be read as a GalSim COSMOS catalogue"),
        (("--renderer", "batch", "--device", "cuda:99"), "--device cuda:99: cannot be used"),
        (("--renderer", "batch", "--ranges", "psf=0.01:0.02", "--n", 4), "outside what --renderer batch draws"),
    ],
)
def test_options_that_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    refuse(capfd, (tmp_path / "out.h5", *arguments), message)
    assert not (tmp_path / "out.h5").exists()

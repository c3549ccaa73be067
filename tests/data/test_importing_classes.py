"""`data import` of text: names of classes, groups and ids, kept in the file and told wherever classes are."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import IDS, RADIUS, N, counts, write_csv, write_stamps
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.command import main
from hpcauxvae.data.guides import guided, guides_of
from hpcauxvae.data.hdf5 import ImageSet, open_set, validate, write
from hpcauxvae.data.lettering import short
from hpcauxvae.types import Factor, InputError

KINDS = ["spiral", "elliptical", "", "ring, thin", "spiral", "elliptical"] * 2
NAMES = ("elliptical", "ring, thin", "spiral")
PLACES = np.array([2, 0, np.nan, 1, 2, 0] * 2)


def made(folder: Path, source: Path, *options: str, name: str = "out") -> ImageSet:
    out = folder / f"{name}.h5"
    assert main(["import", str(source), str(out), "--processes", "1", *options]) == 0
    assert validate(out) == []
    return open_set(out)


def catalogue(folder: Path, **more: object) -> tuple[Path, list[str]]:
    np.save(folder / "cube.npy", counts()[:, 0])
    quoted = [f'"{kind}"' if kind else "" for kind in KINDS]
    path = write_csv(folder / "cat.csv", radius=RADIUS, kind=quoted, **more)
    return path, ["--images", str(folder / "cube.npy"), "--kind", "kind=categorical"]


def test_names_of_classes_from_csv(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the file as numbers in the order of the alphabet, and as a text for each factor; told by their names."""
    path, options = catalogue(tmp_path)
    found = made(tmp_path, path, *options)
    np.testing.assert_array_equal(found.values, np.stack([RADIUS, PLACES], 1))
    assert found.factors[1] == Factor("kind", "", 0, 2, "categorical", classes=NAMES)
    with h5py.File(found.path) as file:
        assert file["factors"].attrs["classes"].tolist() == ["", "elliptical\nring, thin\nspiral"]
    told = "  kind: elliptical (4), ring, thin (2), spiral (4), categorical, measured in 10 of 12 samples\n"
    assert told in capfd.readouterr().out
    assert main(["check", str(found.path)]) == 0
    said = capfd.readouterr()
    assert told in said.out and "have class elliptical (4), ring, thin (2), spiral (4)" in said.err
    assert short(found.factors[1], 2.0) == "spiral"
    (guide,) = guides_of(found, ["kind"], "kinds")
    assert guide.in_words(1) == "kind guides latents 1 and 2: 3 classes, each but elliptical"
    assert [column.name for column in guide.columns] == ["kind=ring; thin", "kind=spiral"]  # aux has commas


def test_names_of_classes_from_other_files(tmp_path: Path) -> None:
    texts, expected = np.array(KINDS), np.where(np.isnan(PLACES), -1, PLACES)
    np.savez(tmp_path / "u.npz", image=counts()[:, 0], kind=texts)
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file["image"], file["kind"] = counts()[:, 0], [text.encode() for text in KINDS]
    fits = pytest.importorskip("astropy.io.fits")
    columns = [fits.Column("kind", "12A", array=texts), fits.Column("radius", "D", array=RADIUS)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "f.fits")
    np.save(tmp_path / "cube.npy", counts()[:, 0])
    for source, options in (("u.npz", ()), ("h.h5", ()), ("f.fits", ("--images", str(tmp_path / "cube.npy")))):
        found = made(tmp_path, tmp_path / source, "--kind", "kind=categorical", *options, name=f"of_{source[0]}")
        (column,) = found.column(["kind"])
        np.testing.assert_array_equal(np.nan_to_num(found.values[:, column], nan=-1), expected)
        assert found.factors[column].classes == NAMES


def test_classes_of_rows_that_are_left_out_have_no_name(tmp_path: Path) -> None:
    names = write_stamps(tmp_path, counts(), ".npy")
    (tmp_path / names[3]).unlink()
    path = write_csv(tmp_path / "cat.csv", file=names, kind=["a", "c", "a", "b", *"acacacac"])
    found = made(tmp_path, path, "--kind", "kind=categorical", "--matched")
    assert found.factors[0].classes == ("a", "c")
    np.testing.assert_array_equal(found.values[:, 0], [0, 1, 0] + [0, 1] * 4)


def test_what_stands_for_no_value_is_no_class(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "cat.csv", file=write_stamps(tmp_path, counts(), ".npy"), kind=["a", "-99", "b"] * 4)
    found = made(tmp_path, path, "--kind", "kind=categorical", "--missing=-99.0")
    assert found.factors[0].classes == ("a", "b")
    np.testing.assert_array_equal(found.values[:, 0], [0, np.nan, 1] * 4)


def test_classes_with_names_are_not_read_as_those_with_numbers(tmp_path: Path) -> None:
    named = Factor("kind", "", 0, 2, "categorical", classes=NAMES)
    numbered = named._replace(classes=())
    for own, known, told in ((named, numbered, "names, but numbers"), (numbered, named, "numbers, but names")):
        path = tmp_path / f"{told[:5]}.h5"
        write(path, counts(), np.arange(N)[:, None] % 3.0, [own], {})
        with pytest.raises(InputError, match=f"{path}: factors, kind: classes are {told} in what the run was trained"):
            in_order_of(open_set(path), [known])


def test_names_go_along_from_set_to_set(tmp_path: Path) -> None:
    """As long as they are classes: numbers of another kind have none."""
    path, options = catalogue(tmp_path)
    first = made(tmp_path, path, *options)
    again = made(tmp_path, first.path, "--unit", "radius=m", name="again")
    assert again.factors == (Factor("radius", "m", *first.factors[0][2:]), first.factors[1])
    numbers = made(tmp_path, first.path, "--kind", "kind=ordinal", name="numbers")
    assert numbers.factors[1] == Factor("kind", "", 0, 2, "ordinal")


def test_text_is_left_out_unless_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is said how; where it is asked for otherwise, it is refused in a line. All different texts are no classes."""
    path, options = catalogue(tmp_path, name=[f"o{n}" for n in range(N)], colour=["red", "blue"] * 6)
    capfd.readouterr()
    made(tmp_path, path, *options[:2])
    said = capfd.readouterr().out
    assert "colour ('red' in row 0 is no number: --kind colour=categorical takes names of classes)" in said
    assert "name ('o0' in row 0 is no number), " in said
    for given in (["--columns", "colour"], ["--kind", "colour=ordinal"]):
        words = r"cat.csv: colour: 'red' in row 0 is no number; .*, or --kind colour=categorical takes names of"
        with pytest.raises(InputError, match=words):
            main(["import", str(path), str(tmp_path / "no.h5"), *options[:2], *given])


def test_text_as_group_and_as_ids(tmp_path: Path) -> None:
    """A column that gives the groups is a quantity, too, where an option says of which kind it is."""
    owner, order = np.array(["Ada", "Bo", "Cy"] * 4), np.random.default_rng(2).permutation(N)
    names = np.array([f"obj {n}" for n in IDS])
    table = write_csv(tmp_path / "cat.csv", name=names, owner=owner, radius=RADIUS)
    np.savez(tmp_path / "cube.npz", image=counts()[order, 0], object=names[order])
    options = ["--id", "name", "--ids", "object", "--images", f"{tmp_path}/cube.npz:image", "--group", "owner"]
    found = made(tmp_path, table, *options)
    np.testing.assert_array_equal(found.images, counts())
    assert found.id.tolist() == names.tolist() and found.group.tolist() == owner.tolist()
    assert [factor.name for factor in found.factors] == ["radius"]
    both = made(tmp_path, table, *options, "--kind", "owner=categorical", name="both")
    assert both.group.tolist() == owner.tolist() and both.factors[0].classes == ("Ada", "Bo", "Cy")
    np.testing.assert_array_equal(both.values[:, 0], [0, 1, 2] * 4)


def test_a_quantity_with_the_name_of_what_stands_beside(tmp_path: Path) -> None:
    """A quantity `group`, or `images`, does not hide the groups and the images of its set."""
    names = ("group", "images", "id")
    factors, values = [Factor(name, "", 0, N) for name in names], np.arange(N)[:, None] + np.array([0.0, 0.5, 1])
    groups, ids = np.arange(N) // 3, [f"o{n}" for n in range(N)]
    write(tmp_path / "a.h5", counts(), values, factors, {}, group=groups, id=ids)
    found = made(tmp_path, tmp_path / "a.h5", "--unit", "images=m")
    np.testing.assert_array_equal(found.images, counts())
    assert found.id.tolist() == ids and found.group.tolist() == groups.tolist()
    np.testing.assert_array_equal(found.values, values)


def test_a_set_with_other_classes_is_read_by_their_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The numbers of the same class differ where a catalogue has more classes, or fewer."""
    images, rows = counts(), np.arange(N)
    known = Factor("kind", "", 0, 2, "categorical", classes=NAMES)
    other = Factor("kind", "", 0, 2, "categorical", classes=("irregular", "ring, thin", "spiral"))
    values = np.where(rows == 5, np.nan, rows % 3.0)[:, None]
    write(tmp_path / "a.h5", images, rows[:, None] % 3.0, [known], {})
    write(tmp_path / "b.h5", images, values, [other], {})
    ours, theirs = open_set(tmp_path / "a.h5"), open_set(tmp_path / "b.h5")
    assert in_order_of(ours, [known]) is ours
    read = in_order_of(theirs, [known])
    assert read.factors == (known,)
    np.testing.assert_array_equal(read.values[:, 0], [np.nan, 1, 2, np.nan, 1, np.nan] + [np.nan, 1, 2] * 2)
    told = "factors, kind: 4 samples are of a class that the run was not trained on (irregular)"
    assert told in capfd.readouterr().err
    columns = guided(read, guides_of(ours, ["kind"], "kinds")).values[:, 1:]
    np.testing.assert_array_equal(columns[6:9], [[np.nan, np.nan], [1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\nb", "factors, kind: classes: 2 names for 0 to 2; allowed: a range within 0 to 1"),
        ("a\nb\na", "factors, kind: classes: 'a' is there more than once; allowed: names that differ"),
        ("a\n\nc", "factors, kind: classes: an empty name; allowed: a name for each class"),
        (
            "a\nb\nc",
            "factors, kind: 0.5 of sample 3 names no class (1 such values); allowed: whole numbers from 0 to 2",
        ),
        (None, "factors, attribute classes: a is not a list of 2 texts"),
    ],
)
def test_faults_of_names(tmp_path: Path, text: str | None, fault: str) -> None:
    values = np.stack([RADIUS, np.arange(N) % 3.0], 1)
    factors = [Factor("radius", "", 0, 2), Factor("kind", "", 0, 2, "categorical")]
    write(tmp_path / "a.h5", counts(), values, factors, {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["factors"][3, 1] = 0.5 if text == "a\nb\nc" else 0
        file["factors"].attrs["classes"] = "a" if text is None else ["", text]
    (said,) = validate(tmp_path / "a.h5")
    assert said.startswith(f"{tmp_path / 'a.h5'}: {fault}")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["factors"].attrs["classes"] = ["x\ny", ""]
    (said,) = validate(tmp_path / "a.h5")
    assert "factors, radius: classes 'x, y' of a factor that is not categorical; allowed: of those that" in said

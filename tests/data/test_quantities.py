"""What `data check` says of the measured quantities together: correlations, heavy tails."""

from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.quantities import correlations, described
from hpcauxvae.types import Factor

RNG = np.random.default_rng(0)
N = 200


def lines(path: Path, columns: dict[str, np.ndarray], **kinds: str) -> list[str]:
    factors = []
    for name, column in columns.items():
        kind, _, transform = kinds.get(name, "continuous linear").partition(" ")
        factors.append(Factor(name, "", np.nanmin(column), np.nanmax(column), kind, transform or "linear"))  # type: ignore[arg-type]
    write(path, RNG.random((N, 1, 4, 4)), np.stack([*columns.values()], 1), factors, {})
    return list(described(open_set(path)))


def test_correlations_are_of_the_samples_that_have_both() -> None:
    values = RNG.standard_normal((N, 4))
    values[:, 1] += values[:, 0]
    values[:50, 0] = values[150:, 1] = np.nan
    values[2:, 3] = np.nan  # two are left
    found = correlations(values)
    both = slice(50, 150)
    assert found[0, 1] == found[1, 0] == pytest.approx(np.corrcoef(values[both, 0], values[both, 1])[0, 1])
    assert found[2, 1] == pytest.approx(np.corrcoef(values[:150, 2], values[:150, 1])[0, 1])
    assert np.isnan(found[3, :3]).all() and found[0, 0] == pytest.approx(1)


def test_of_a_million_samples_some_tell() -> None:
    values = RNG.standard_normal((250_000, 2))
    values[::3, 1] = values[::3, 0]
    assert correlations(values)[0, 1] == pytest.approx(1)


def test_the_matrix_and_in_words_what_goes_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = RNG.standard_normal((2, N))
    columns = {"mass": a, "a long name of it": -2 * a + 0.1 * b, "class": np.arange(N) % 3.0, "spin": b}
    columns["turn"] = a - a.min()
    found = lines(tmp_path / "a.h5", columns, **{"class": "categorical", "turn": "periodic"})
    r = np.corrcoef(np.stack([columns[name] for name in ("mass", "a long name of it", "spin")]))
    assert [line.split() for line in found[:3]] == [
        ["correlations", "mass", "a", "long", "na…"],
        ["a", "long", "name", "of", "it", "-1.00"],
        ["spin", f"{r[2, 0]:z.2f}", f"{r[2, 1]:z.2f}"],
    ]
    assert len({len(line) for line in (found[0], found[2])}) == 1
    assert found[3:] == ["go together: mass and a long name of it (r = -1.00); so will the latents that they guide"]
    assert main(["check", str(tmp_path / "a.h5")]) == 0
    assert f"  {found[3]}\n" in capfd.readouterr().out


def test_many_quantities_have_no_matrix_and_one_has_none(tmp_path: Path) -> None:
    columns = {f"a{n}": RNG.random(N) for n in range(13)}
    columns["a12"] = columns["a3"] + 0.2 * RNG.random(N)
    found = lines(tmp_path / "a.h5", columns)
    assert len(found) == 1 and found[0].startswith("go together: a3 and a12 (r = 0.9")
    assert lines(tmp_path / "b.h5", {"a": columns["a1"]}) == []


def test_heavy_tails_are_to_be_scaled_by_their_logarithm(tmp_path: Path) -> None:
    tail = np.exp(3 * RNG.standard_normal(N))
    expected = (
        f"mass: half of its values are below {np.median(tail):.3g}, and the largest is {tail.max():.3g}; `data import` "
        "with --log mass scales it by its logarithm"
    )
    said, whole, below = lines(tmp_path / "a.h5", {"mass": tail})
    assert said == expected and whole.endswith("a-kinds.h5 --log mass")
    assert below.startswith("the command below takes them as they are")
    assert len(lines(tmp_path / "b.h5", {"mass": 3e3 * tail ** (0.8 / 3)})) == 3
    for number, (column, kind) in enumerate(
        (
            (tail, "continuous log10"), (tail, "ordinal"), (tail - 1, "continuous"), (RNG.random(N) + 1, "continuous"),
            (np.exp(0.3 * RNG.standard_normal(N)), "continuous"), (RNG.random(N) ** 2 + 1e-6, "continuous"),
        )
    ):  # fmt: skip
        assert lines(tmp_path / f"{number}.h5", {"mass": column}, mass=kind) == []


def test_of_copies_one_is_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In another unit or of the other sign; what only goes together stays."""
    a, noise = RNG.standard_normal((2, N))
    columns = {"mass": a, "in grams": 1000 * a + 3, "less": 1 - a, "near": a + 0.1 * noise}
    lines(tmp_path / "a.h5", columns)
    assert main(["check", str(tmp_path / "a.h5")]) == 0
    assert " --aux mass,near " in capsys.readouterr().out.splitlines()[-1]

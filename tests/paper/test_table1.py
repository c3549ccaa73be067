"""Table 1 from made-up scores, and the scores of beta-VAE's codes against other factors than it was evaluated with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcauxvae.data import cars3d, galaxies
from hpcauxvae.metrics import Codes, score_codes
from hpcauxvae.paper import runs as runs_module
from hpcauxvae.paper import table1
from hpcauxvae.paper.runs import EvaluatedRun
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError


def found(name: str, lds: float, *, aux: str, model: str = "aux-vae", seed: int = 0, **fields: Any) -> EvaluatedRun:
    def score(value: float, **more: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 1638, **more}

    codes = {"lds": score(lds, attainable=0.85), "lds_d": score(lds + 0.1, attainable=0.96), "sap": score(0.7)}
    codes["dci"] = {"completeness": score(0.2), "disentanglement": score(0.6)}
    images = {"ssim": score(0.9)}
    fields = {"aux": aux, "model": model, "seed": seed, "epochs": 40, "objective": "tuned", "labels": "raw"} | fields
    config = TrainConfig(data=Path("d"), out=Path(name), **fields)
    return EvaluatedRun(
        folder=Path(name), config=config, metrics={"epoch": 40, "sets": {"test": {"codes": codes, "images": images}}}
    )


def draw(runs: list[EvaluatedRun], out: Path) -> list[Path]:
    return table1.draw("table1", {str(run.folder): run for run in runs}, out)


def test_seeds_are_averaged_beside_the_papers_number(tmp_path: Path) -> None:
    runs = [found("a", 0.8, aux="radius,g1,g2"), found("b", 0.9, aux="radius,g1,g2", seed=1)]
    runs += [found("c", 0.3, aux="radius,g1,g2", objective="paper"), found("d", 0.5, aux="flux,psf", model="idvae")]
    runs += [found("e", 0.6, aux="scale,orientation,x,y", objective="bernoulli")]
    path, numbers = draw(runs, tmp_path)
    overview, details = path.read_text().split("# Every score")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in overview.splitlines() if "|" in line]
    assert ["Galaxies, case 2", "paper", "", "0.73 (0.74)", "", "0.94 (0.89)"] in rows
    assert ["Galaxies, case 2", "ours, test, n = 1,638", "", "", "", "0.85 (0.70)"] in rows
    assert ["Galaxies, case 3", "ours, test, n = 1,638", "", "0.50 (0.70)", "", ""] in rows
    assert ["dSprites, the paper's labels", "paper", "0.26 (0.27)", "0.39 (0.43)", "", "0.83 (0.78)"] in rows
    (row,) = [line for line in details.splitlines() if "| 1,638 | 2 |" in line]
    assert row.split(" | ")[6:] == [
        "0.850 ± 0.071, least 0.800", "0.850", "1.000", "0.950 ± 0.071, least 0.900", "0.960", "0.990", "",
        "0.700 ± 0.000, least 0.700", "0.600 ± 0.000, least 0.600", "0.900 ± 0.000, least 0.900", "0.94 (0.89) |",
    ]  # fmt: skip
    assert "| paper | test | 1,638 | 1 | 0.300 [0.290, 0.310] |" in details
    lines = json.loads(numbers.read_text())["lines"]
    assert [(line["case"], line["model"], line["runs"]) for line in lines] == [
        (2, "aux-vae", ["a", "b"]),
        (2, "aux-vae", ["c"]),
        (3, "idvae", ["d"]),
        (None, "aux-vae", ["e"]),
    ]


def test_every_cell_of_the_papers_table_is_there() -> None:
    """As printed: five rows, and no beta-VAE in cases 2 and 3."""
    printed = {}
    for task in table1.TASKS:
        for model, cell in task.printed.items():
            printed[task.labels if task.data == "galaxies" else task.data, model] = cell
    assert printed == {
        ("case1", "beta-vae"): (0.48, 0.39), ("case1", "idvae"): (0.65, 0.72), ("case1", "aux-vae"): (0.88, 0.81),
        ("case2", "idvae"): (0.73, 0.74), ("case2", "aux-vae"): (0.94, 0.89),
        ("case3", "idvae"): (0.59, 0.68), ("case3", "aux-vae"): (0.81, 0.84),
        ("cars3d", "beta-vae"): (0.21, 0.18), ("cars3d", "idvae"): (0.67, 0.55), ("cars3d", "aux-vae"): (0.93, 0.85),
        ("dsprites", "beta-vae"): (0.26, 0.27), ("dsprites", "idvae"): (0.39, 0.43),
        ("dsprites", "aux-vae"): (0.83, 0.78),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"seed": 0}, "b and a: both have seed = 0, and are of one kind"),
     ({"seed": 1, "epochs": 7}, "b: epochs = 7, but a has 40"),
     ({"seed": 1, "lambda2": 5.0}, "b: dependence_tolerance = None, but a has 0.003"),
     ({"seed": 1, "network": "mlp"}, "b: network = mlp, but a has conv; allowed in one row")],
)  # fmt: skip
def test_only_runs_that_differ_in_the_seed_alone_share_a_row(fields: dict[str, Any], words: str) -> None:
    pair = [found("a", 0.8, aux="flux,psf"), found("b", 0.9, aux="flux,psf", **fields)]
    with pytest.raises(InputError, match=words):
        list(table1.lines(pair))


@pytest.mark.parametrize("model", ["aux-vae", "idvae"])
def test_only_runs_that_were_scored_on_the_same_samples_share_a_table(model: str) -> None:
    pair = [found("a", 0.8, aux="flux,psf"), found("b", 0.8, aux="flux,psf", model=model, seed=1)]
    lds = pair[1].metrics["sets"]["test"]["codes"]["lds"]
    lds["attainable"] *= 1 + 1e-8
    list(table1.lines(pair))
    lds["attainable"] *= 1 + 1e-5
    fewer = dataclasses.replace(pair[1], config=dataclasses.replace(pair[1].config, latents=4))
    list(table1.lines([pair[0], fewer] if model == "idvae" else [fewer]))
    words = "was scored on another test set than .: the ceilings of their LDS are .*; allowed in Table 1: one set"
    with pytest.raises(InputError, match=words):
        list(table1.lines(pair))


def test_a_row_says_how_many_of_its_seeds_are_in_bfloat16_and_have_a_score_of_means(tmp_path: Path) -> None:
    runs = [found(str(seed), 0.8, aux="flux,psf", seed=seed, bf16=seed < 2) for seed in range(3)]
    for run, value in zip(runs[1:], (0.5, 0.7), strict=True):
        scores = run.metrics["sets"]["test"]["codes"]
        scores["lds_mean"] = scores["lds"] | {"value": value}
    table, numbers = draw(runs, tmp_path)
    assert "| 1,638 | 3, 2 in bfloat16 |" in table.read_text()
    assert "| 0.600 ± 0.141 of 2 seeds, least 0.500 |" in table.read_text()
    assert len(json.loads(numbers.read_text())["lines"][0]["lds_mean"]) == 2
    table, _ = draw(runs[:2], tmp_path)
    assert "| 0.500 of 1 seed [0.790, 0.810] |" in table.read_text()
    table, _ = draw(runs[:1], tmp_path)
    assert "| 0.900 [0.890, 0.910] | 0.960 | 0.938 |  | 0.700" in table.read_text()


def codes(path: Path, factors: Any, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    values = np.stack([rng.uniform(f.low, f.high, n) for f in factors], 1)
    for column, factor in enumerate(factors):
        if factor.kind == "categorical":
            values[:, column] = rng.integers(0, 3, n)
    mean, logvar = rng.standard_normal((n, 10)), np.full((n, 10), -3.0)
    mean[:, :3] += 2 * factors[1].scale(values[:, 1:4])
    with h5py.File(path, "w") as file:
        file["factors"], file["mean"], file["logvar"] = values, mean, logvar
        file["factors"].attrs["name"] = [factor.name for factor in factors]
    return values, mean, logvar


@pytest.mark.parametrize(
    ("factors", "names"), [(galaxies.FACTORS, ("flux", "psf")), (cars3d.FACTORS, cars3d.LABELS["raw"])]
)
def test_codes_are_scored_against_other_factors(tmp_path: Path, factors: Any, names: tuple[str, ...]) -> None:
    """As evaluate would: it gives factors scaled to [0, 1], in the order of the names, with their kinds."""
    values, mean, logvar = codes(tmp_path / "codes-test.h5", factors)
    columns = [[f.name for f in factors].index(name) for name in names]
    aux = np.stack([factors[c].scale(values[:, c]) for c in columns], 1)
    kinds = [factors[c].kind for c in columns]
    own = Codes(
        mean_NZ=mean, logvar_NZ=logvar, aux_ND=aux, hidden_NH=aux[:, :0],
        aux_names=names, hidden_names=(), aux_kinds=kinds, seed=0,
    )  # fmt: skip
    expected = score_codes(own)
    found = table1.rescored(tmp_path / "codes-test.h5", factors, names)
    assert set(found) == {*table1.SCORES} - {"ssim"}
    for name, score in (found.pop("dci") | found).items():
        assert score == pytest.approx((expected | expected["dci"])[name], abs=1e-9)


def test_beta_vae_is_scored_against_every_case(tmp_path: Path) -> None:
    run = found(str(tmp_path), 0.4, aux=",".join(galaxies.CASES[1]), model="beta-vae")
    codes(tmp_path / "codes-test.h5", galaxies.FACTORS)
    lines = list(table1.lines([run]))
    assert [line.task.labels for line in lines] == ["case1", "case2", "case3"]
    assert [len(line.scores["dci"]) for line in lines] == [1, 1, 1]
    expected = table1.rescored(tmp_path / "codes-test.h5", galaxies.FACTORS, galaxies.CASES[3])["dci"]
    assert lines[2].scores["dci"] == [expected["disentanglement"]]
    assert lines[0].scores["lds"][0]["value"] == 0.4 and lines[1].scores["lds"][0]["n"] == 400
    (tmp_path / "codes-test.h5").unlink()
    with pytest.raises(InputError, match=r"codes-test.h5: no such file; `hpcauxvae evaluate"):
        list(table1.lines([run]))


def test_the_number_of_a_car_is_graded_as_a_category_and_as_a_value(tmp_path: Path) -> None:
    run = found(str(tmp_path), 0.4, aux=",".join(cars3d.LABELS["raw"]), objective="bernoulli")
    codes(tmp_path / "codes-test.h5", cars3d.FACTORS)
    category, value = table1.lines([run])
    assert category.scores["sap"][0]["value"] == 0.7, "as evaluated"
    numbers = [factor._replace(kind="continuous") for factor in cars3d.FACTORS]
    expected = table1.rescored(tmp_path / "codes-test.h5", numbers, cars3d.LABELS["raw"])
    assert value.scores["sap"][0] == expected["sap"]
    assert value.scores["dci"] == [expected["dci"]["disentanglement"]] and not category.scores["dci"], "DCI: by values"
    as_category = table1.rescored(tmp_path / "codes-test.h5", cars3d.FACTORS, cars3d.LABELS["raw"])
    assert expected["sap"]["value"] != pytest.approx(as_category["sap"]["value"], abs=1e-3)


def test_the_table_keeps_of_each_run_what_it_takes_to_draw_it_again(tmp_path: Path) -> None:
    """On another machine, or when the codes are gone."""
    (tmp_path / "beta").mkdir()
    codes(tmp_path / "beta" / "codes-test.h5", galaxies.FACTORS)
    beta = found(str(tmp_path / "beta"), 0.4, aux=",".join(galaxies.CASES[1]), model="beta-vae")
    runs = [beta, found("a", 0.8, aux="flux,psf")]
    of_these = table1.rescored(tmp_path / "beta" / "codes-test.h5", galaxies.FACTORS, ("flux", "psf"))["lds"]
    runs[1].metrics["sets"]["test"]["codes"]["lds"]["attainable"] = of_these["attainable"]
    table, _ = draw(runs, tmp_path)
    elsewhere = runs_module.find(tmp_path / "table1")
    assert [run.folder.name for run in elsewhere] == ["a", "beta"]
    (tmp_path / "again").mkdir()
    again, _ = draw(elsewhere, tmp_path / "again")
    assert again.read_text() == table.read_text() and "Galaxies, case 3" in table.read_text()
    changed = elsewhere[1].metrics["sets"]["test"]["codes"]["lds"]
    changed["value"] += 0.1
    with pytest.raises(InputError, match=r"codes-test.h5: no such file"):
        draw(elsewhere, tmp_path / "again")


def test_no_runs_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no evaluated run of Table 1; hpcauxvae paper table1 makes them"):
        draw([], tmp_path)

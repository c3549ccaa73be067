"""The space, the objectives, dominance, hypervolume and the choice: against pymoo, brute force and hand-made fronts."""

import dataclasses
import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.kinds import drawn
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.metrics.pareto import choose, dominated_by, hypervolume, paper_products
from hpcauxvae.models import MODELS
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError, Interval
from hpo.logbook import SETTINGS, Logbook, Row
from hpo.problem import (
    GRIDS,
    Objectives,
    declared_space,
    grid_points,
    parse_axis,
    parse_fixed,
    tidy,
)
from hpo.search import strategy_of
from hpo.settings import SearchConfig
from hpo.stopping import best_so_far, judge, rungs
from hpo.strategies import Grid, Random


@pytest.mark.parametrize("seed", range(20))
def test_hypervolume_and_front_are_those_of_pymoo(seed):
    from pymoo.indicators.hv import HV
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rng.integers(1, 40), 2)).round(1)  # rounding makes ties
    reference = (1.0, 0.5)
    assert hypervolume(values, reference) == pytest.approx(HV(ref_point=np.array(reference))(values), abs=1e-12)
    front = NonDominatedSorting().do(values, only_non_dominated_front=True)
    assert set(np.flatnonzero(dominated_by(values) == 0)) == set(front)


def test_dominance_counts_pairs():
    values = np.array([[0, 0], [1, 1], [1, 1], [0, 2], [2, 0.5]])
    by_hand = [sum((q <= p).all() and (q < p).any() for q in values) for p in values]
    assert dominated_by(values).tolist() == by_hand == [0, 1, 1, 1, 1]


def test_the_choice_is_the_knee_and_bad_trials_do_not_move_it():
    front = np.array([[0.0, 1.0], [0.2, 0.25], [1.0, 0.0]])
    assert choose(front) == 1
    assert choose(np.concatenate([front, [[50.0, 1.1], [0.9, 0.9]]])) == 1
    assert choose(np.array([[3.0, 3.0]])) == 0
    assert choose(np.array([[1.0, 9.0], [2.0, 8.0], [3.0, 1.0]])) == 2, "a front that bulges outwards has no knee"
    assert choose(np.array([[0.1, 0.3], [0.3, 0.1]])) == 1


def test_the_papers_rule_on_the_papers_table():
    """Fig. 16, whose digits are rounded: MSE in 1e-6, LDS in percent, and the printed product, smallest in row 3."""
    mse = [10, 3, 5, 18, 13, 14, 20, 16, 12, 29, 9, 7, 21, 22, 17, 21, 22, 19, 8, 27, 21, 25, 24, 20, 27, 23, 26]
    lds = [82, 83, 87, 88, 90, 80, 86, 75, 85, 83, 87, 83, 87, 85, 88, 87, 88, 84, 92, 84, 83, 89, 87, 89, 90, 90, 88]
    printed = [1.32, 1.38, 0.39, 0.02, 0.59, 0.72, 0.03, 0.76, 0.13, 1.20, 0.37, 1.14, 0.11, 0.14]
    printed += [0.06, 0.07, 0.31, 0.10, 2.33, 0.77, 0.37, 0.75, 0.25, 0.26, 1.58, 0.80, 0.67]
    products = paper_products(np.array(mse) * 1e-6, 1 - np.array(lds) / 100)
    assert np.corrcoef(products, printed)[0, 1] > 0.98
    assert 3 in products.argsort()[:2]
    average = np.array([1.0, 2.0, 3.0])
    assert paper_products(average, average).argmin() == 1, "it favours the average trial"


def test_objectives_come_from_the_validation_block():
    objectives = Objectives.of({"loss": 3.0, "mse": 1e-5, "lds": 0.8, "lds_attainable": 0.9})
    assert objectives.compared == (pytest.approx(-5), pytest.approx(1 - 0.8 / 0.9))
    assert not Objectives(math.nan, 0.1).finite
    assert not Objectives(0.0, 0.1).finite


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_corner_of_a_declared_space_can_be_trained(model, objective):
    fields = {"data": Path("x.h5"), "model": model, "objective": objective, "aux": "a,b,c,d,e,f"}
    config = TrainConfig(**fields)
    space = declared_space(config)
    ends = [(axis.low, axis.high) if isinstance(axis, Interval) else (axis[0], axis[-1]) for axis in space.values()]
    for corner in range(2):
        TrainConfig(**fields, **dict(zip(space, (end[corner] for end in ends), strict=True)))
    weighed = model == "aux-vae" and config.resolved_objective.dependence_tolerance is None
    assert ("lambda2" in space) == weighed, "a tolerance finds the weight"
    assert ("dependence_tolerance" in space) == (model == "aux-vae" and not weighed)
    assert ("lambda1" in space) == ("degree" in space) == (model == "aux-vae")
    assert ("sigma" in space) == (config.resolved_objective.likelihood == "gaussian")
    assert space["latents"].low == 7, "one latent at least for what is not measured"
    assert space["beta"].low < config.resolved_objective.beta < space["beta"].high


@pytest.mark.parametrize(
    ("searched", "message"),
    [
        ("{'bata': Around(4)}", "SEARCHED has 'bata', which is no number of an objective; allowed: .*beta, .*lambda1"),
        ("{'latents': Around(4)}", "SEARCHED has 'latents', which is no number of an objective; allowed: .*beta"),
        ("{'depth': Interval(1, 9, log=False)}", "SEARCHED has 'depth', which is no hyperparameter of a run; allowed"),
        ("{'epochs': (3, 5)}", "SEARCHED has 'epochs', which is no hyperparameter of a run; allowed: .*batch_size"),
    ],
)
def test_a_model_of_another_package_that_declares_what_is_not_there_is_named(searched, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "searched_for", raising=False)
    importlib.invalidate_caches()
    (tmp_path / "searched_for.py").write_text(
        "from hpcauxvae.models.aux_vae import AuxVAE\nfrom hpcauxvae.types import Around, Interval\n"
        f"class VAE(AuxVAE):\n    SEARCHED = {searched}\n"
    )
    with pytest.raises(InputError, match=f"model = searched_for:VAE: {message}"):
        SearchConfig(data=Path("x.h5"), aux="a", model="searched_for:VAE")


def test_a_search_knows_every_model_and_objective():
    for name in ("objective",):
        assert SearchConfig.__dataclass_fields__[name].type == TrainConfig.__dataclass_fields__[name].type


def test_the_papers_grid_has_27_points():
    points = grid_points(GRIDS["paper"])
    assert len({tuple(point.values()) for point in points}) == len(points) == 27
    assert {"beta": 5.0, "lambda1": 1.0, "lambda2": 0.1} in points


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("beta=0.5:20:log", ("beta", Interval(0.5, 20.0, log=True))),
        ("latents=6:16", ("latents", Interval(6, 16, log=False))),
        ("lambda1=1:100:log", ("lambda1", Interval(1.0, 100.0, log=True))),
        ("batch-size=32,64", ("batch_size", (32, 64))),
        ("network=mlp", ("network", ("mlp",))),
        ("likelihood=gaussian,optimal", ("likelihood", ("gaussian", "optimal"))),
        ("warmup_epochs=1:3", ("warmup_epochs", Interval(1.0, 3.0, log=False))),
    ],
)
def test_axes_are_read(text, parsed):
    assert parse_axis(text) == parsed
    assert repr(parse_axis(text)) == repr(parsed), "whole numbers and real ones are not the same here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beta", "allowed: NAME=LOW:HIGH"),
        ("bta=1:2", "'bta' is no hyperparameter of a run; allowed: perhaps beta, of accumulate,"),
        ("seed=1,2", "'seed' is no hyperparameter"),
        ("beta=2:1", "allowed: LOW below HIGH"),
        ("beta=0:1:log", "above 0 with log"),
        ("beta=a:b", "'a' is no number"),
        ("beta=1,a", "allowed: a number"),
        ("latents=6.5,7", "allowed: a whole number"),
        ("latents=6.7:12", "'6.7'; allowed: whole numbers"),
        ("latents=6:12.5", "'12.5'; allowed: whole numbers"),
        ("degree=1,1,2", "a value is listed twice"),
        ("beta=1,1.0", "a value is listed twice"),
        ("objective=paper,tuned", "'objective' is no hyperparameter of a run; allowed: --objective"),
        ("network=conv,transformer", "allowed: conv, mlp"),
        ("beta=1:2:lin", "allowed: NAME=LOW:HIGH"),
        ("network=0:1", "LOW:HIGH:log of a number"),
        ("compile=0:1", "LOW:HIGH:log of a number"),
        (
            "likelihood=gaussian,poisson",
            "'poisson'; allowed: gaussian, fitted, weighted, optimal",
        ),
    ],
)
def test_wrong_axes_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_axis(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aux": ""}, "aux is empty"),
        ({"max_evals": 0}, "max_evals = 0"),
        ({"strategy": "grid"}, "needs --grid"),
        ({"strategy": "grid", "vary": ("beta=0.5:20",)}, "grid: beta has the range 0.5 to 20"),
        ({"grid": "paper", "vary": ("beta=1,2",)}, "one of the two"),
        ({"fix": ("latents=0",)}, "latents = 0"),
        ({"workers": 0}, "workers = 0"),
        ({"device": "gpu"}, "device = gpu; allowed: auto, cpu, cuda"),
        ({"fix": ("objective=paper",)}, "'objective' is no hyperparameter of a run; allowed: --objective"),
        ({"fix": ("beta=1", "beta=2")}, "fix: beta is given twice"),
        ({"vary": ("batch-size=1,2", "batch_size=3")}, "vary: batch_size is given twice"),
        ({"vary": ("latents=1:12",), "aux": "a,b,c"}, "for latents = 1; allowed: at most 1 names"),
        ({"vary": ("degree=1,2", "beta=-1:5")}, r"beta = -1.0; .* the space has the point {'degree': 1, 'beta': -1.0}"),
        ({"vary": ("momentum=0.5:2",)}, "momentum = 2"),
        ({"vary": ("batch_size=32,0",)}, "batch_size = 0"),
        ({"vary": ("accumulate=2,4", "likelihood=gaussian,optimal")}, "accumulate = 2 with likelihood optimal"),
        ({"vary": ("gamma=1:5",)}, "gamma in the space: aux-vae has no such hyperparameter.*; allowed: beta, sigma"),
        ({"model": "beta-vae", "grid": "paper", "strategy": "grid"}, "lambda1, lambda2 in the space: beta-vae has no"),
        ({"grid": "paper", "fix": ("beta=1", "lambda1=1", "lambda2=1")}, "no hyperparameter is left to search"),
        ({"model": "beta-vae", "grid": "paper"}, "lambda1, lambda2 in the space: beta-vae has no"),
        ({"model": "beta-vae", "fix": ("lambda1=1",)}, "lambda1 = 1 with model beta-vae, .* allowed: with aux-vae"),
    ],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        SearchConfig(**{"data": Path("x.h5"), "aux": "a"} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"vary": ("network=conv,mlp", "checkpoint_minutes=1:5")},  # no model's own
        {"vary": ("accumulate=2,4", "likelihood=gaussian,bernoulli"), "objective": "bernoulli"},
        {"vary": ("latents=6.0:1e1",)},
        {"model": "idvae", "vary": ("gamma=1:5",)},
        {"device": "cuda"},  # also where the report is made, and no GPU is
    ],
)
def test_what_can_be_trained_can_be_searched(fields):
    config = SearchConfig(**{"data": Path("x.h5"), "aux": "a"} | fields)
    assert config.space()


def test_a_search_finds_its_data_from_any_folder(tmp_path, monkeypatch):
    """Also one that was saved with the path as it was typed; a resumed one may be given that again."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    typed = SearchConfig(data=Path("x.h5"), aux="a", out=Path("s"))
    for data in ("x.h5", str(tmp_path / "x.h5")):
        Path("s").mkdir(exist_ok=True)
        Path("s/search.json").write_text(json.dumps({"settings": typed.to_json() | {"data": data}}))
        typed.check_same(SearchConfig.load(Path("s")))
        assert SearchConfig.load(Path("s")).train_fields()["data"] == tmp_path / "x.h5"
    Path("s/search.json").write_text(json.dumps({"settings": typed.to_json()}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert SearchConfig.load(Path("../s")).train_fields()["data"] == tmp_path / "x.h5"


def test_fixed_hyperparameters_leave_the_space():
    config = SearchConfig(data=Path("x.h5"), aux="a", fix=("batch_size=64", "network=mlp"))
    assert "batch_size" not in config.space()
    assert config.train_fields()["batch_size"] == 64
    assert parse_fixed("beta=1e-3") == ("beta", 1e-3)


def test_there_are_latents_for_all_that_factors_guide(tmp_path):
    """Three factors by five columns, and with 20 classes by 24; raw labels guide one each. What was counted is kept."""
    angles = open_set(drawn(tmp_path / "set.h5"))
    own = angles.values[:, :3], angles.factors[:3]
    for classes, labels, low, high in (
        (3, "kinds", 6, 16),
        (8, "kinds", 11, 16),
        (20, "kinds", 23, 33),
        (20, "raw", 6, 16),
    ):
        values, factors = own[0].copy(), (own[1][0], own[1][1]._replace(low=0, high=99), own[1][2])
        values[:, 1] = np.arange(120) % classes
        path = tmp_path / f"{classes}{labels}.h5"
        write(path, angles.images[:], values, factors, {})
        search = SearchConfig(data=path, aux="azimuth,shape,size", fix=(f"labels={labels}",), out=tmp_path / path.stem)
        assert search.decided().space()["latents"] == Interval(low, high, log=False)
        search.out.mkdir()
        (search.out / SETTINGS).write_text(json.dumps({"settings": search.decided().to_json()}))
        again = dataclasses.replace(search, resume=True).decided()
        again.check_same(SearchConfig.load(search.out))
        assert again.space() == search.decided().space() == SearchConfig.load(search.out).space()


@pytest.mark.parametrize("name", ["warmup_epochs", "checkpoint_minutes"])
def test_a_setting_without_a_value_of_its_own_can_be_searched(tmp_path, name):
    """The objective's own setting is then no point of the space, and the first trial is another."""
    config = SearchConfig(data=Path("x.h5"), aux="a", strategy="random", vary=(f"{name}=0.5:3",))
    first = strategy_of(config, config.space(), Logbook(tmp_path)).ask()
    assert first is not None and 0.5 <= first[name] <= 3


def test_a_grid_has_all_its_points_unless_told_otherwise():
    grid = {"data": Path("x.h5"), "aux": "a", "strategy": "grid"}
    vary = ("beta=1,2,3,4", "lambda1=1,2,3,4", "lambda2=1,2,3,4")
    assert SearchConfig(**grid, vary=vary).trials == 64
    assert SearchConfig(**grid, vary=vary, fix=("sigma=0.1",)).trials == 64
    assert SearchConfig(**grid, grid="paper").trials == 27
    assert SearchConfig(**grid, grid="paper", max_evals=40).trials == 27  # it has no more
    assert SearchConfig(**grid, vary=vary, max_evals=40).trials == 40
    assert SearchConfig(data=Path("x.h5"), aux="a").trials == 40
    few = SearchConfig(data=Path("x.h5"), aux="a", vary=("degree=1,2", "latents=6:8"))
    assert few.trials == 6, "a search of a finite space ends with its last point, and says so from the start"


def test_switches_go_to_a_trial_as_the_command_line_takes_them():
    config = SearchConfig(data=Path("x.h5"), aux="a", fix=("bf16=True", "compile=False"))
    given = config.train_config().arguments()
    assert "--bf16" in given and "--compile" not in given and "True" not in given


def test_random_points_fill_the_space_and_never_repeat():
    space = {"beta": Interval(0.1, 10, log=True), "latents": Interval(6, 9, log=False), "network": ("conv", "mlp")}
    strategy = Random(space, [], 0, None)
    points = [strategy.ask() for _ in range(2000)]
    assert len({tuple(point.values()) for point in points}) == 2000
    betas = np.log10([point["beta"] for point in points])
    assert abs(betas.mean()) < 0.05
    assert abs(betas.std() - 2 / math.sqrt(12)) < 0.03
    latents, counts = np.unique([point["latents"] for point in points], return_counts=True)
    assert latents.tolist() == [6, 7, 8, 9]
    assert counts.min() > 420
    assert all(tidy(point, space) == point for point in points)


def test_small_spaces_are_used_up_once():
    space = {"degree": (1, 2, 3), "latents": Interval(6, 7, log=False)}
    for make in (lambda known: Random(space, known, 0, None), lambda known: Grid({**space, "latents": (6, 7)}, known)):
        strategy = make([{"degree": 1, "latents": 6}])
        points = iter(strategy.ask, None)
        assert len({tuple(point.values()) for point in points} | {(1, 6)}) == 6


def test_the_last_points_of_a_large_finite_space_are_found():
    space = {"latents": Interval(1, 20_000, log=False)}
    known = [{"latents": number} for number in range(1, 20_001) if number not in (7, 12_000)]
    assert {point["latents"] for point in iter(Random(space, known, 0, None).ask, None)} == {7, 12_000}


def test_rungs_lie_within():
    assert rungs(20) == [2, 5, 10]
    assert rungs(2) == [1]
    assert rungs(1) == []


def test_a_trial_on_the_front_of_its_rung_always_goes_on():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mse, gap = 10 ** rng.uniform(-7, -4, 12), rng.uniform(0, 1, 12)
        trials = [Objectives(*pair) for pair in zip(mse, gap, strict=True)]
        for number, own in enumerate(trials):
            others = trials[:number] + trials[number + 1 :]
            beaten = sum(o.mse * 10**0.05 <= own.mse and o.gap + 0.3 <= own.gap for o in others)
            judged = judge(own, others)
            assert judged["beaten_by"] == beaten
            assert judged["goes_on"] or beaten > 0
    worst = judge(Objectives(1.0, 1.3), trials)
    assert (worst["goes_on"], worst["beaten_by"], worst["of"]) == (False, 12, 12)
    assert judge(Objectives(1.0, 1.3), trials[:2])["goes_on"], "too few to tell"
    near = Objectives(trials[0].mse * 1.1, trials[0].gap + 0.9)
    assert judge(near, trials[:1] * 5)["goes_on"], "within the noise of five better ones"
    near = Objectives(trials[0].mse * 9, trials[0].gap + 0.29)
    assert judge(near, trials[:1] * 5)["goes_on"]


def test_a_trial_is_judged_by_its_best_so_far():
    nan = float("nan")
    curve = {1: Objectives(0.4, 0.3), 2: Objectives(0.2, 0.5), 3: Objectives(nan, 0.0), 4: Objectives(0.1, 0.1)}
    assert [best_so_far(curve, epoch) for epoch in (1, 2, 3)] == [(0.4, 0.3), (0.2, 0.3), (0.2, 0.3)]
    assert not best_so_far({1: Objectives(nan, 0.1)}, 1).finite


def row(trial: int, **fields) -> Row:
    given = {"point": {"beta": 0.5}, "state": "finished", "reason": "", "objectives": Objectives(1e-6, 0.1)}
    rest = {"epochs": 3, "started": 1.0, "ended": 2.0, "worker": "here/0", "rungs": []}
    return Row(trial=trial, **given | rest | fields)


def test_the_journal_survives_a_cut_line(tmp_path):
    logbook = Logbook(tmp_path)
    for trial in range(3):
        logbook.ask(trial, {"beta": float(trial)})
    logbook.end(row(0))
    logbook.end(row(2, state="failed", reason="killed", objectives=None))
    whole = logbook.path.read_bytes()
    for cut in range(1, 60):
        logbook.path.write_bytes(whole[:-cut])
        again = Logbook(tmp_path)
        assert [r.trial for r in again.rows] == [0]
        assert set(again.running) == {1, 2}
        again.repair()
        again.end(row(2))
        assert [json.loads(line)["event"] for line in logbook.path.read_text().splitlines()].count("ended") == 2
    assert Logbook(tmp_path).rows[1] == row(2)


def test_deephyper_reads_the_table(tmp_path):
    from deephyper.analysis.hpo import read_results_from_csv

    logbook = Logbook(tmp_path)
    logbook.ask(0, {"beta": 0.5})
    logbook.end(row(0))
    logbook.end(row(1, state="failed", reason="diverged", objectives=None))
    table = read_results_from_csv(str(tmp_path / "results.csv"))
    assert [float(value) for value in table.iloc[0][["p:beta", "objective_0", "objective_1"]]] == [0.5, 6.0, -0.1]
    assert table["objective_0"][1] == "F_diverged"


def test_a_search_of_a_weight_does_not_begin_with_the_objective_that_has_none() -> None:
    given = {"data": Path("x.h5"), "aux": "a"}
    assert SearchConfig(**given, vary=("lambda2=100:10000:log",)).first() is None
    assert SearchConfig(**given, vary=("beta=0.5:2",)).first() == {"beta": 1.0}

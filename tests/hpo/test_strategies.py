"""DeepHyper through ask and tell, and the loop around it: on functions whose best region is known."""

import dataclasses
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.types import Interval
from hpo import figures, pools
from hpo.logbook import Logbook, Row
from hpo.pools import Pool
from hpo.problem import Objectives, Point, Space
from hpo.results import front, hypervolumes, utilisation
from hpo.search import Hopeless, Search
from hpo.settings import SearchConfig
from hpo.stopping import expected
from hpo.strategies import Bayesian, Random
from hpo.trials import Setup

SPACE: Space = {"beta": Interval(0.01, 100.0, log=True), "latents": Interval(2, 16, log=False), "degree": (1, 2, 3)}

REFERENCE = np.array([-4.0, 1.0])


def trial(number: int, point: Point, **fields) -> Row:
    """Front: beta from 0.1 to 1, latents 10, degree 3. Above beta = 10 it fails."""
    x = np.log10(point["beta"])
    off = 0.2 * abs(point["latents"] - 10) / 8 + 0.2 * (3 - point["degree"])
    objectives = Objectives(float(10 ** (-6 + (x + 1) ** 2 + off)), float(0.05 + x**2 / 4 + off))
    failed = {"state": "failed", "reason": "diverged", "objectives": None} if x > 1 else {}
    rest = {"state": "finished", "reason": "", "epochs": 1, "worker": "0", "rungs": [], "started": 0.0, "ended": 1.0}
    return Row(trial=number, point=point, **{"objectives": objectives} | rest | failed | fields)


def play(strategy, trials: int) -> list[Row]:
    rows = []
    for number in range(trials):
        rows.append(trial(number, strategy.ask()))
        strategy.tell(rows[-1:])
    return rows


@pytest.mark.slow
def test_bayesian_points_find_the_front_and_avoid_failures():
    found, chance = [], []
    for seed in range(2):
        rows = play(Bayesian(SPACE, [], seed, None, 8), 34)
        found.append(hypervolumes(rows, REFERENCE)[-1])
        chance += [hypervolumes(play(Random(SPACE, [], s, None), 34), REFERENCE)[-1] for s in range(5)]
        assert sum(row.state == "failed" for row in rows[12:]) <= 2, "a third of the space fails, at first"
        assert {row.point["degree"] for row in front(rows)} <= {2, 3}
    assert np.mean(found) > np.mean(chance)


def test_a_small_space_is_used_up_without_repeats_across_sessions():
    space: Space = {"degree": (1, 2, 3), "latents": Interval(2, 5, log=False)}
    strategy = Bayesian(space, [], 0, {"degree": 3, "latents": 4}, 4)
    points: list[Point] = []

    def told(number: int) -> Row:
        return dataclasses.replace(trial(number, points[number] | {"beta": 1.0}), point=points[number])

    for number in range(7):
        points.append(strategy.ask())
        strategy.tell([told(number)])
    assert points[0] == {"degree": 3, "latents": 4}
    resumed = Bayesian(space, points, 0, {"degree": 3, "latents": 4}, 4)
    resumed.tell([told(number) for number in range(7)])
    for point in iter(resumed.ask, None):
        points.append(point)
        resumed.tell([told(len(points) - 1)])
    assert sorted(tuple(point.values()) for point in points) == [(d, z) for d in (1, 2, 3) for z in range(2, 6)]


def test_points_asked_for_together_are_all_the_surrogates():
    """As where a search with many workers goes on. By chance |log10 beta| is 1 on average."""
    strategy, rng = Bayesian(SPACE, [], 0, None, 5), np.random.default_rng(0)

    def told(number: int) -> Row:
        point = {"beta": float(10 ** rng.uniform(-2, 2)), "latents": 10, "degree": 3}
        off = abs(np.log10(point["beta"]))
        return trial(number, point, objectives=Objectives(10 ** (off - 6), off), state="finished")

    strategy.tell([told(number) for number in range(40)])
    points = [strategy.ask() for _ in range(12)]
    assert len({tuple(point.values()) for point in points}) == 12
    assert np.mean([abs(np.log10(point["beta"])) for point in points[1:]]) < 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_points_of_listed_values_are_the_surrogates_too(seed):
    """The best 40 of 400 are those of degree 0. A point that DeepHyper gives twice would be replaced by chance."""
    space: Space = {"degree": tuple(range(10)), "latents": Interval(1, 40, log=False)}
    order = np.random.default_rng(seed).permutation(400)
    known = [{"degree": int(number % 10), "latents": int(number // 10) + 1} for number in order[:24]]
    resumed = Bayesian(space, known, seed, None, 5)

    def told(number: int, point: Point) -> Row:
        off = 0.1 * point["degree"]
        return trial(number, {"beta": 1.0, **point}, objectives=Objectives(10 ** (off - 6), off))

    rows = [told(number, point) for number, point in enumerate(known)]
    resumed.tell([dataclasses.replace(row, point=point) for row, point in zip(rows, known, strict=True)])
    points = [resumed.ask() for _ in range(16)]
    assert all(point["degree"] < 2 for point in points)


def test_a_resumed_search_weighs_uncertainty_as_one_that_was_not_interrupted():
    """DeepHyper lowers and raises the weight with the number of points that it gave."""
    strategy = Bayesian(SPACE, [], 0, None, 5)
    rows = play(strategy, 17)
    resumed = Bayesian(SPACE, [row.point for row in rows], 0, None, 5)
    resumed.tell(rows)
    assert resumed.search._opt.acq_func_kwargs == strategy.search._opt.acq_func_kwargs
    assert resumed.search._opt.acq_func_kwargs["kappa"] < 1.9


def test_deephypers_private_names_are_where_the_search_uses_them():
    """Where this fails: hpo/strategies.py has to learn the new names, and pyproject.toml the version that has them."""
    from deephyper.hpo import CBO, HpProblem

    problem = HpProblem()
    problem.add_hyperparameter((0.1, 1.0), "beta")
    problem.add_hyperparameter([1, 2], "degree")
    search = CBO(problem, checkpoint_history_to_csv=False, random_state=0, surrogate_model="ET", n_initial_points=5)
    search._setup_optimizer()
    assert (search._num_asked, search._opt.sampled) == (0, [])
    points = search.ask(2)
    names = search._problem.hyperparameter_names
    assert search._num_asked == 2, "the weight of the uncertainty goes by this count"
    assert search._opt.sampled == [[point[name] for name in names] for point in points]


def test_a_stopped_trial_is_told_as_what_it_would_have_come_to():
    def finished(number: int, before: Objectives, after: Objectives) -> Row:
        rungs = [{"epoch": 1, "mse": 1.0, "gap": 1.0}, {"epoch": 2, **before._asdict()}]
        return trial(number, {"beta": 1.0, "latents": 9, "degree": 3}, objectives=after, epochs=8, rungs=rungs)

    rows = [
        finished(0, Objectives(1e-3, 0.5), Objectives(1e-5, 0.1)),  # changes by -2 and -.4
        finished(1, Objectives(1e-3, 0.5), Objectives(1e-4, 0.4)),  # by -1 and -.1
        finished(2, Objectives(1e-3, 0.5), Objectives(1e-3, 0.9)),  # by 0 and .4
    ]
    rungs = [{"epoch": 2, "mse": 1e-2, "gap": 0.7}]  # it was an epoch further when it ended
    stopped = dataclasses.replace(rows[0], state="stopped", objectives=Objectives(1e-9, 0.0), epochs=3, rungs=rungs)
    assert expected(stopped, rows) == pytest.approx((-3.0, 0.6))
    assert expected(stopped, []) is None
    assert expected(rows[1], rows) == pytest.approx((-4.0, 0.4))

    strategy, told = Bayesian(SPACE, [], 0, None, 5), []
    strategy.search.tell = told.extend
    strategy.tell([stopped])
    assert told == [], "nobody can say yet"
    strategy.tell(rows[1:2])
    assert [values for _, values in told] == [pytest.approx((3.0, -0.6)), pytest.approx((4.0, -0.4))], "to be maximised"


def test_failures_alone_do_not_end_a_search():
    strategy = Bayesian(SPACE, [], 0, None, 5)
    for number in range(6):
        point = strategy.ask()
        strategy.tell([trial(number, point, state="failed", objectives=None, reason="killed")])
    strategy.tell([trial(9, {"beta": 0.5, "latents": 9, "degree": 3})])
    assert strategy.ask() is not None


class Instant:
    """An executor that runs when asked."""

    def submit(self, function, *arguments) -> "Future[Row]":
        future: Future[Row] = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def calm():
    yield
    pools.STOP.clear()


def setup(folder: Path) -> Setup:
    return Setup(out=folder, mark="", fields={}, processes=1, early_stopping=False, trial_minutes=None)


def run(folder: Path, evals: int, judged=trial) -> Logbook:
    logbook = Logbook(folder)
    strategy = Random(SPACE, list(logbook.asked.values()), 0, None)
    pool = Pool(Instant(), 3, lambda _, number, point: judged(number, point))
    Search(setup(folder), logbook, strategy, pool, lambda *_: None, evals).run()
    return logbook


def test_exactly_max_evals_over_sessions(tmp_path, calm):
    assert len(run(tmp_path, 5).rows) == 5
    rows = run(tmp_path, 12).rows
    assert [row.trial for row in rows] == list(range(12))
    assert len({tuple(row.point.values()) for row in rows}) == 12
    assert len(run(tmp_path, 12).rows) == 12


def test_a_search_without_hope_ends(tmp_path, calm):
    with pytest.raises(Hopeless, match="last 10 trials all failed, this one: no data"):
        run(tmp_path, 50, lambda n, p: trial(n, p, state="failed", objectives=None, reason="no data"))
    assert len(Logbook(tmp_path).rows) == 10
    pools.STOP.clear()
    mended = run(tmp_path, 20, lambda n, p: trial(n, p, **({"state": "failed", "objectives": None} if n < 12 else {})))
    assert len(mended.rows) == 20


def test_a_search_whose_trials_never_work_again_ends_later(tmp_path, calm):
    def failed(number: int, point: Point) -> Row:
        return trial(number, point, state="failed", objectives=None, reason="no data")

    run(tmp_path, 2)
    assert len(run(tmp_path, 21, failed).rows) == 21
    with pytest.raises(Hopeless, match="last 20 trials"):
        run(tmp_path, 50, failed)
    assert len(Logbook(tmp_path).rows) == 41


def test_each_point_is_asked_for_when_the_trial_before_it_was_told(tmp_path, calm):
    """Also where several trials end at once."""
    events = []

    class Asked(Random):
        def ask(self) -> Point | None:
            events.append("ask")
            return super().ask()

        def tell(self, rows) -> None:
            events.extend("tell" for _ in rows)

    pool = Pool(Instant(), 3, lambda _, number, point: trial(number, point))
    Search(setup(tmp_path), Logbook(tmp_path), Asked(SPACE, [], 0, None), pool, lambda *_: None, 12).run()
    assert events == ["ask"] * 4 + ["tell", "ask"] * 8 + ["tell"] * 4


def test_interrupted_trials_come_first_in_the_next_session(tmp_path, calm):
    def interrupted(number: int, point: Point) -> Row:
        if number == 3:
            pools.STOP.set()
        return trial(number, point, **({"state": "interrupted"} if number >= 3 else {}))

    logbook = run(tmp_path, 10, interrupted)
    assert [row.trial for row in logbook.rows] == [0, 1, 2]
    left = logbook.running
    assert left
    pools.STOP.clear()
    again = run(tmp_path, 10)
    assert [row.trial for row in again.rows][3 : 3 + len(left)] == list(left)
    assert {row.trial: row.point for row in again.rows} == again.asked
    assert len(again.rows) == 10


def test_utilisation_by_hand():
    spans = [(0, 10), (0, 4), (5, 9), (10, 20)]  # two workers; the last start is at 10: 10 + 4 + 4 of 20 s
    rows = [trial(n, {"beta": 1.0, "latents": 9, "degree": 3}, started=a, ended=b) for n, (a, b) in enumerate(spans)]
    assert utilisation(rows, 2) == pytest.approx(18 / 20)


def test_interrupted_time_is_written_down_and_drawn(tmp_path):
    logbook = Logbook(tmp_path)
    logbook.session(mark="", workers=2, time=0.0)
    point = {"beta": 1.0, "latents": 9, "degree": 3}
    for number in (0, 1):
        logbook.ask(number, point)
    logbook.end(trial(1, point, started=0.0, ended=60.0))
    logbook.end(trial(0, point, started=0.0, ended=90.0, state="interrupted"))
    again = Logbook(tmp_path)
    assert ([row.trial for row in again.rows], list(again.running)) == ([1], [0])
    assert [(row.trial, row.ended) for row in again.interrupted] == [(0, 90.0)]
    drawn = figures.of_search(again, SPACE, SearchConfig(data=Path("x.h5"), aux="a"))["workers"].axes[0].collections
    assert sorted(bar.get_paths()[0].get_extents().width for bar in drawn) == pytest.approx([1.0, 1.5])

"""DeepHyper through ask and tell, and the loop around it: on functions whose best region is known."""

import dataclasses
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.types import Interval
from hpo import pools
from hpo.journal import Journal, Row
from hpo.pools import Pool
from hpo.problem import Objectives, Point, Space
from hpo.results import front, hypervolumes, utilisation
from hpo.search import Hopeless, Search
from hpo.strategies import Bayesian, Random
from hpo.trials import Plan

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


def plan(folder: Path) -> Plan:
    return Plan(out=folder, mark="", fields={}, processes=1, early_stopping=False, trial_minutes=None)


def run(folder: Path, evals: int, judged=trial) -> Journal:
    journal = Journal(folder)
    strategy = Random(SPACE, list(journal.asked.values()), 0, None)
    pool = Pool(Instant(), 3, lambda _, number, point: judged(number, point))
    Search(plan(folder), journal, strategy, pool, lambda *_: None, evals).run()
    return journal


def test_exactly_max_evals_over_sessions(tmp_path, calm):
    assert len(run(tmp_path, 5).rows) == 5
    rows = run(tmp_path, 12).rows
    assert [row.trial for row in rows] == list(range(12))
    assert len({tuple(row.point.values()) for row in rows}) == 12
    assert len(run(tmp_path, 12).rows) == 12


def test_a_search_without_hope_ends(tmp_path, calm):
    with pytest.raises(Hopeless, match="first 10 trials all failed, the last one: no data"):
        run(tmp_path, 50, lambda n, p: trial(n, p, state="failed", objectives=None, reason="no data"))
    assert len(Journal(tmp_path).rows) == 10


def test_interrupted_trials_come_first_in_the_next_session(tmp_path, calm):
    def interrupted(number: int, point: Point) -> Row:
        if number == 3:
            pools.STOP.set()
        return trial(number, point, **({"state": "interrupted"} if number >= 3 else {}))

    journal = run(tmp_path, 10, interrupted)
    assert [row.trial for row in journal.rows] == [0, 1, 2]
    left = journal.running
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

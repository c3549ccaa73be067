"""Who proposes the next point: DeepHyper's asynchronous Bayesian optimisation, chance, or a grid. One interface.

The search keeps its own loop and uses DeepHyper through ask and tell: its evaluators end a search at the first trial
that raises, returns NaN or is killed, and its files lose rows until the first success.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcauxvae.types import Interval
from hpo.logbook import Row
from hpo.problem import Axis, Point, Space, all_values, grid_points, is_whole, key, tidy
from hpo.stopping import expected

_TRIES = 1000


class Strategy:
    """Proposes points and hears what became of them."""

    def ask(self) -> Point | None:
        """The next point, never one it gave or was told before; None when there is none left."""
        raise NotImplementedError

    def tell(self, rows: Sequence[Row]) -> None:
        """Trials that ended; nothing to learn from, for most strategies."""


class Grid(Strategy):
    """Every combination of the listed values, in order."""

    def __init__(self, space: Space, known: Sequence[Point]) -> None:
        seen = {key(point) for point in known}
        self.left = [point for point in grid_points(space) if key(point) not in seen]

    def ask(self) -> Point | None:
        """The next point; None after the last."""
        return self.left.pop(0) if self.left else None


class Random(Strategy):
    """Independent points, uniform on each axis (or on its logarithm); `first` comes before them."""

    def __init__(self, space: Space, known: Sequence[Point], seed: int, first: Point | None) -> None:
        self.space, self.first = space, first
        self.seen = {key(point) for point in known}
        self.rng = np.random.default_rng([seed, len(known)])

    def ask(self) -> Point | None:
        """A point that was not tried; None where there is none."""
        return fresh(self.first, self.space, self.seen, self.rng)


class Bayesian(Strategy):
    """DeepHyper's CBO: extremely randomised trees, scalarised anew at random with every trial that ends (Chebyshev).

    Failed trials count as the worst that was seen, so that the region around them is avoided; stopped trials as
    what they would have come to (`stopping.expected`).
    """

    def __init__(self, space: Space, known: Sequence[Point], seed: int, first: Point | None, initial: int) -> None:
        """initial: trials before the surrogate is trusted."""
        from deephyper.hpo import CBO, HpProblem  # 3 s, which neither a grid nor a report needs

        problem = HpProblem()
        for name, axis in space.items():
            problem.add_hyperparameter(_dimension(axis), name)
        self.search = CBO(
            problem,
            checkpoint_history_to_csv=False,
            random_state=int(np.random.SeedSequence([seed, len(known)]).generate_state(1)[0] >> 1),
            surrogate_model="ET",
            acq_optimizer="sampling",
            acq_optimizer_kwargs={"max_total_failures": -1},
            multi_point_strategy="qUCBd",
            n_initial_points=initial,
        )
        self.search._setup_optimizer()
        self.space, self.first, self.told = space, first, False
        self.finished: list[Row] = []
        self.held: list[Row] = []
        self.seen = {key(point) for point in known}
        for point in known:
            self._mark(point)
        self.rng = np.random.default_rng([seed, len(known), 1])

    def ask(self) -> Point | None:
        """The point that DeepHyper proposes, not tried before; None where there is none."""
        point = self.first
        if point is None or key(point) in self.seen:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a point that was evaluated before: `fresh` sees to it
                # Asked again for a single point, it repeats itself; of several, each but the first weighs the
                # surrogate's uncertainty anew.
                point = tidy(self.search.ask(1 if self.told else 2)[-1], self.space)
                self.told = False
        point = fresh(point, self.space, self.seen, self.rng)
        if point is not None:
            self._mark(point)
        return point

    def _mark(self, point: Point) -> None:
        """DeepHyper knows which points it gave, but not those of earlier sessions or of chance; nor how many."""
        self.search._opt.sampled.append([point[name] for name in self.search._problem.hyperparameter_names])
        self.search._num_asked = len(self.seen)

    def tell(self, rows: Sequence[Row]) -> None:
        """Of trials that ended; those that finished teach the model."""
        self.finished += [row for row in rows if row.state == "finished"]
        waiting, self.held, told = [*self.held, *rows], [], list[tuple[Point, Any]]()
        for row in waiting:
            if row.objectives is None:
                told.append((row.point, f"F_{row.state}"))
            elif values := expected(row, self.finished):
                told.append((row.point, tuple(-value for value in values)))
            else:
                self.held.append(row)
        if told:
            self.search.tell(told)
            self.told = True


def fresh(point: Point | None, space: Space, seen: set[tuple[Any, ...]], rng: np.random.Generator) -> Point | None:
    """The point if it is new, else a random new point; marks it as seen. None where a finite space is used up."""
    for _ in range(_TRIES):
        if point is not None and key(point) not in seen:
            break
        point = tidy({name: _draw(axis, rng) for name, axis in space.items()}, space)
    else:  # hardly any is left; a continuous axis never comes here
        lists = [all_values(axis) or () for axis in space.values()]
        every = (dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*lists))
        point = next((each for each in every if key(each) not in seen), None)
    if point is not None:
        seen.add(key(point))
    return point


def _draw(axis: Axis, rng: np.random.Generator) -> Any:
    if not isinstance(axis, Interval):
        return axis[rng.integers(len(axis))]
    low, high = axis.low, axis.high
    if is_whole(axis):  # each end as likely as a number between
        low, high = low - 0.5, high + 0.5
    value = np.exp(rng.uniform(np.log(low), np.log(high))) if axis.log else rng.uniform(low, high)
    return min(max(round(value), axis.low), axis.high) if is_whole(axis) else float(value)


def _dimension(axis: Axis) -> Any:
    if not isinstance(axis, Interval):
        return list(axis)
    return (axis.low, axis.high, "log-uniform" if axis.log else "uniform")

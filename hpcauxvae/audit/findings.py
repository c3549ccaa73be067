"""What the images, the code and the other factors tell of a candidate: numbers, each of test images.

All that is fitted is fitted elsewhere: how auxiliary variables tell of a candidate on training images, how latents and
the reader do on validation images, which trained no weights. Shape suffixes: N samples, U columns of the auxiliary
variables, T columns of a candidate, Z latents, R columns of the reader.
"""

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide, guided, guides_of, guiding, measured
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.stored import in_pieces
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.reader import reader_of
from hpcauxvae.evaluate.scores import Evaluator
from hpcauxvae.metrics.beyond import Beyond, Part, beyond, gain_of, missed
from hpcauxvae.metrics.codes import off
from hpcauxvae.metrics.intervals import Array, Score, ratio_score
from hpcauxvae.metrics.objects import Numbers, objects
from hpcauxvae.metrics.regression import Predict, fitted, forest, shares
from hpcauxvae.types import InputError

FEWEST = 60
"""Objects in each part, an image each where none is there twice, of which a candidate must be known."""
MOST = 8000
"""Images of each part that are looked at, at most."""
PARTS = ("training", "validation", "test")


class Candidate(NamedTuple):
    """A factor of the data set that the run was not given."""

    guide: Guide
    target_NT: Array
    """Its columns in [0, 1]: cosine and sine of an angle, one for each class; NaN if not measured."""

    @property
    def name(self) -> str:
        """Of the factor."""
        return self.guide.factor.name


def candidate_of(data: ImageSet, name: str) -> Candidate:
    """Of a data set. Raises InputError where the name is unknown."""
    (guide,) = guides_of(data, [name], "kinds")
    return Candidate(guide, target_of(data, guide))


def target_of(data: ImageSet, guide: Guide) -> Array:
    """The columns of a factor, as in Candidate: one for each class, the first too."""
    scaled_NT = guide.scaled(data.values[:, data.column([guide.factor.name])[0]])
    first_N1 = 1 - scaled_NT.sum(1, keepdims=True)
    return np.concatenate([first_N1, scaled_NT], 1) if guide.by_classes else scaled_NT


def fault_of(candidate: Candidate, parts: Sequence[NDArray], object_N: Numbers) -> str:
    """Why a candidate cannot be asked about, given the rows of each part of its set; nothing where it can."""
    for name, rows in zip(PARTS, parts, strict=True):
        target_NT = candidate.target_NT[rows]
        known_N = np.asarray(~np.isnan(target_NT).any(1))
        if (count := int(known_N.sum())) < FEWEST:
            return f"measured in {count} of {len(rows)} {name} images; allowed: {FEWEST} or more"
        if (different := len(np.unique(object_N[rows[known_N]]))) < FEWEST:
            return f"measured in {count} {name} images of {different} objects; allowed: {FEWEST} objects or more"
        if not np.ptp(target_NT[known_N], 0).any():
            return f"has the same value in all {name} images; allowed: one that varies"
    return ""


def parts_of(parts: Sequence[NDArray]) -> list[NDArray]:
    """The rows of each part that are looked at, of parts in random order."""
    return [np.sort(part[:MOST]) for part in parts]


def objects_of(data: ImageSet, digest_N: NDArray) -> Numbers:
    """The number of each sample's object: its group, or as metrics/objects.py has it. digest_N: of its image."""
    if data.group is None:
        return objects(data.values, digest_N)
    return np.unique(data.group, return_inverse=True)[1].reshape(-1)


def candidates_of(
    data: ImageSet, aux: Sequence[str], names: Sequence[str], parts: Sequence[NDArray], object_N: Numbers
) -> list[Candidate]:
    """The candidates that can be asked about. names: of the candidates; none for all, less those with a fault.

    Raises InputError where one is unknown, auxiliary or has a fault, and where none is left.
    """
    others = [factor.name for factor in data.factors if factor.name not in aux]
    found = []
    for name in names or others:
        if name in aux:
            raise InputError(f"candidate {name} is auxiliary; allowed: {', '.join(others) or 'none'}")
        candidate = candidate_of(data, name)
        fault = fault_of(candidate, parts, object_N)
        if fault and names:
            raise InputError(f"{data.path}: factors, {name}: {fault}")
        if fault:
            print(f"warning: {data.path}: factors, {name}: {fault}: left out", file=sys.stderr, flush=True)
        else:
            found.append(candidate)
    if not found:
        raise InputError(f"{data.path}: has no factor beside {', '.join(aux)} that can be asked about")
    return found


class Found(NamedTuple):
    """What was found of a candidate."""

    candidate: Candidate
    numbers: dict[str, Any]
    """For audit.json."""
    residual: Beyond
    test_N: NDArray[np.int64]
    """Which samples were judged."""


class Auditor:
    """A run, its data set, and the candidates in it."""

    def __init__(self, run: Path, out: Path, names: tuple[str, ...], **options: Any) -> None:
        """names: of the candidates, none for all. options: seed, and data, checkpoint and device of EvaluateConfig.

        Raises InputError where a candidate is unknown, auxiliary, or known in too few images.
        """
        self.evaluator = Evaluator(EvaluateConfig(run=run, out=out, control=False, pictures=False, **options))
        self.out, self.seed, self.run = out, self.evaluator.config.seed, self.evaluator.run
        self.data = measured(self.evaluator.data)
        self.aux = self.run.config.aux_names
        if not self.aux:
            raise InputError(f"{run}: has no auxiliary variables; allowed: a run with --aux")
        self.others = guides_of(self.data, self.aux, "kinds")
        self.u_NU = np.concatenate([target_of(self.data, guide) for guide in self.others], 1)
        self.parts = parts_of(self.evaluator.parts)
        self.object_N = objects_of(self.data, self.evaluator.seen["test"].digest)
        self.candidates = candidates_of(self.data, self.aux, names, self.parts, self.object_N)

    @cached_property
    def mean_NZ(self) -> Array:
        """Posterior means of validation and test images; NaN of others."""
        return self._codes[0]

    @cached_property
    def off_Z(self) -> NDArray[np.bool_]:
        """Which latents are off in test images."""
        mean_NZ, logvar_NZ = (values[self.parts[2]] for values in self._codes)
        return np.asarray(off(mean_NZ, logvar_NZ))

    @cached_property
    def _codes(self) -> tuple[Array, Array]:
        data, rows = self.evaluator.data, np.concatenate(self.parts[1:])
        labels_ND = data.scaled()[rows][:, guiding(data, self.aux)]
        whole = []
        for values in self.run.encode(data.images, labels_ND, rows):
            whole.append(np.full((len(data), values.shape[1]), np.nan))
            whole[-1][rows] = values
        return whole[0], whole[1]

    @cached_property
    def read(self) -> dict[str, Array]:
        """What an independent reader of images says of each candidate, (N, R), NaN of training images; none without."""
        data: ImageSet = guided(self.data, [candidate.guide for candidate in self.candidates])
        config, device = self.run.config, self.evaluator.device
        reader = reader_of(data, config.split_seed, self.out, device, self.run.split, config.own_fold)
        if reader is None:
            return {}
        rows = np.concatenate(self.parts[1:])
        read_NC = np.full((len(data), len(reader.columns)), np.nan)
        read_NC[rows] = np.concatenate([reader.read(part) for _, part in in_pieces(data.images, rows)])
        found = {}
        for candidate in self.candidates:
            columns = data.column([column.name for column in candidate.guide.columns])
            if all(column in reader.columns for column in columns):
                found[candidate.name] = read_NC[:, [reader.columns.index(column) for column in columns]]
        return found

    def of(self, candidate: Candidate) -> Found:
        """All numbers of a candidate."""
        known = np.asarray(~np.isnan(candidate.target_NT).any(1))
        train, validation, test = (rows[known[rows]] for rows in self.parts)
        target_NT, d = candidate.target_NT, self.guided
        predict = fitted(self.u_NU[train], target_NT[train], self._numbers(train), self.seed, or_mean=True)
        error_NT = np.full(target_NT.shape, np.nan)
        for rows in (validation, test):
            error_NT[rows] = target_NT[rows] - predict(self.u_NU[rows])
        spread_N = np.square(target_NT[test] - target_NT[test].mean(0)).sum(1)

        def judged(features_NF: NDArray) -> tuple[Beyond, Part]:
            fit, judge = (
                Part(features_NF[rows], self.u_NU[rows], error_NT[rows], self._numbers(rows))
                for rows in (validation, test)
            )
            return beyond(fit, judge, spread_N, self.seed), judge

        live = np.flatnonzero(~self.off_Z)
        residual, of_residual = judged(self.mean_NZ[:, live[live >= d]])
        read_NR = self.read.get(candidate.name)
        numbers: dict[str, Any] = {
            "kind": candidate.guide.factor.kind,
            "images": dict(zip(PARTS, map(len, (train, validation, test)), strict=True)),
            "test_objects": len(np.unique(self.object_N[test])),
            "latents": self._told(self.mean_NZ[:, live], target_NT, validation, test),
            "reader": None if read_NR is None else self._told(read_NR, target_NT, validation, test),
            "others": self._score(target_NT[test], predict(self.u_NU[test]), self._numbers(test)),
            "of_others": {},
            "beyond": {"residual": _record(residual), "all": _record(judged(self.mean_NZ[:, live])[0])},
            "held_by": {},
        }
        numbers["beyond"]["reader"] = None if read_NR is None else _record(judged(read_NR)[0])
        numbers["others"]["missed"] = self._missed(target_NT, error_NT, predict, train, np.union1d(validation, test))
        others = shares(lambda u: _loss(target_NT[test], predict(u)), self.u_NU[test], self._columns, self.seed)
        numbers["of_others"] = dict(zip(self.aux, others.tolist(), strict=True))
        told_NT = residual.predict(of_residual.features_NF)
        held = shares(
            lambda z: _loss(of_residual.error_NT, residual.added_NT + residual.predict(z) - told_NT),
            of_residual.features_NF, [[k] for k in range(of_residual.features_NF.shape[1])], self.seed,
        )  # fmt: skip
        numbers["held_by"] = {str(z + 1): float(h) for z, h in zip(live[live >= d], held, strict=True)}
        return Found(candidate, numbers, residual, test)

    def labels_with_errors(self) -> list[str]:
        """The auxiliary variables whose labels have errors that are known."""
        columns = self.data.column(self.aux)
        errors = self.data.factor_errors
        if errors is None:
            return []
        return [name for name, c in zip(self.aux, columns, strict=True) if np.nan_to_num(errors[:, c]).any()]

    @property
    def guided(self) -> int:
        """Latents that auxiliary variables guide, the first ones."""
        return len(self.run.guiding) if self.run.model.GUIDED else 0

    @property
    def _columns(self) -> list[list[int]]:
        """Which columns of u each auxiliary variable has."""
        ends = np.cumsum([0, *(len(guide.columns) + guide.by_classes for guide in self.others)])
        return [list(range(*pair)) for pair in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]

    def _numbers(self, rows: NDArray) -> NDArray[np.int64]:
        """The object of each of these samples, from 0, in random order, so that folds are alike."""
        number_N = np.unique(self.object_N[rows], return_inverse=True)[1].reshape(-1)
        return np.random.default_rng([self.seed, 7]).permutation(int(number_N.max()) + 1)[number_N]

    def _told(self, features_NF: NDArray, target_NT: Array, fit: NDArray, test: NDArray) -> dict[str, Any]:
        predict = fitted(features_NF[fit], target_NT[fit], self._numbers(fit), self.seed, or_mean=True)
        return self._score(target_NT[test], predict(features_NF[test]), self._numbers(test))

    def _missed(self, target_NT: Array, error_NT: Array, predict: Predict, train: NDArray, held: NDArray) -> Score:
        """What a random forest finds in the auxiliary variables and the regression that predicts does not."""
        more_NT = forest(self.u_NU[train], target_NT[train], self.seed)(self.u_NU[held]) - predict(self.u_NU[held])
        spread_N = np.square(target_NT[held] - target_NT[held].mean(0)).sum(1)
        return missed(more_NT, error_NT[held], spread_N, self._numbers(held))

    def _score(self, target_NT: Array, told_NT: Array, object_N: NDArray) -> dict[str, Any]:
        """R^2 of all columns; of classes the share that is told right, and that of the class with most images."""
        spread_NT = target_NT - target_NT.mean(0)
        r2: Score = gain_of(told_NT - target_NT.mean(0), spread_NT, np.square(spread_NT).sum(1), object_N)
        found: dict[str, Any] = {"r2": r2}
        if set(np.unique(target_NT)) == {0.0, 1.0} and target_NT.shape[1] > 1:
            right_N = (told_NT.argmax(1) == target_NT.argmax(1)).astype(np.float64)
            found["accuracy"] = ratio_score(right_N, np.ones(len(right_N)), object_N)
            found["chance"] = float(target_NT.mean(0).max())
        return found


def _loss(target_NT: Array, told_NT: Array) -> float:
    return float(np.square(target_NT - told_NT).sum())


def _record(found: Beyond) -> dict[str, Any]:
    return {"gain": found.gain, "z": found.z, "p": found.p}

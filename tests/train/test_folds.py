"""Cross-validation: a training for each fold, the same whether they are made together or each by itself."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.forked import on_ranks
from helpers.trainings import alone, assert_same, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.splits import parts
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.command import main
from hpcauxvae.train.loop import Loop
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import history
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Factor, Fold, InputError

FOLDS = 3


def words(data: Path, out: Path, *more: str) -> list[str]:
    """A cross-validation as it is typed: 5 steps an epoch, two epochs."""
    return [*config(data, out, network="mlp", folds=FOLDS).arguments(), *more]


@pytest.fixture(scope="module")
def folds(blobs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation, never disturbed."""
    folder = tmp_path_factory.mktemp("folds") / "x"
    assert main(words(blobs_file, folder)) == FINISHED
    return folder


def test_each_fold_is_a_run_with_its_own_test_part(folds, blobs_file):
    runs, data = [load_run(folds / f"fold{number}") for number in range(FOLDS)], open_set(blobs_file)
    parts = [run.parts(data) for run in runs]
    np.testing.assert_array_equal(np.sort(np.concatenate([part[2] for part in parts])), np.arange(160))
    for run, (train, validation, test) in zip(runs, parts, strict=True):
        assert run.state["n_train"] == len(train)
        assert len(np.unique(np.concatenate([train, validation, test]))) == 160
    weights = [next(iter(run.model.parameters())).detach().numpy() for run in runs]
    assert not np.array_equal(weights[0], weights[1])


def test_a_fold_by_itself_is_the_same(folds, blobs_file, tmp_path):
    """As a job of its own makes it."""
    assert alone(config(blobs_file, tmp_path / "fold2", network="mlp", folds=FOLDS, fold=2)) == FINISHED
    assert_same(folds / "fold2", tmp_path / "fold2")


def test_a_stop_between_two_folds_is_heard(blobs_file, tmp_path, monkeypatch, capfd):
    """It comes when the first has ended and the second has not begun, and nobody is lost in between."""
    close = Loop.close

    def then_asked(loop, code):
        close(loop, code)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Loop, "close", then_asked)
    assert main(words(blobs_file, tmp_path / "x", "--epochs", "1")) == MORE_TO_DO
    assert load_run(tmp_path / "x" / "fold0").state["epoch"] == 1
    assert not (tmp_path / "x" / "fold1" / "last.safetensors").exists() and not (tmp_path / "x" / "fold2").exists()
    assert "stopped (SIGTERM) after step 0 of " in capfd.readouterr().out


def test_folds_that_are_stopped_go_on(folds, blobs_file, tmp_path, capfd):
    """In the second fold: the first stays as it is, the third is begun by the next start alone."""
    real, seen = Trainer.train_step, []

    def train_step(trainer, *arguments):
        seen.append(trainer.config.fold)
        if len(seen) == 13:
            signal.raise_signal(signal.SIGTERM)
        return real(trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        assert main(words(blobs_file, tmp_path / "x")) == MORE_TO_DO
    assert set(seen) == {0, 1} and not (tmp_path / "x" / "fold2").exists()
    saved = (tmp_path / "x" / "fold0" / "last.safetensors").stat().st_mtime_ns
    capfd.readouterr()
    again = words(blobs_file, tmp_path / "x", "--resume", "auto")
    assert main(again) == FINISHED
    assert "fold 1 of 3: " in (said := capfd.readouterr().out)
    assert said.splitlines()[-1] == f"next: hpcauxvae evaluate {tmp_path / 'x'}" and said.count("next:") == 1
    assert (tmp_path / "x" / "fold0" / "last.safetensors").stat().st_mtime_ns == saved
    for number in range(FOLDS):
        assert_same(folds / f"fold{number}", tmp_path / "x" / f"fold{number}")


def test_the_folds_share_the_time(blobs_file, tmp_path, monkeypatch):
    """--max-minutes end for all at the same moment."""
    close, ends, began = Loop.close, [], time.monotonic()

    def look(loop, code):
        close(loop, code)
        ends.append(loop.requests.deadline)

    monkeypatch.setattr(Loop, "close", look)
    assert main(words(blobs_file, tmp_path / "x", "--epochs", "1", "--max-minutes", "1000")) == FINISHED
    assert len(ends) == FOLDS and len(set(ends)) == 1
    assert began + 60_000 < ends[0] < time.monotonic() + 60_000


@pytest.mark.processes
def test_folds_on_two_ranks_are_those_of_one(blobs_file, tmp_path):
    one, two = (words(blobs_file, tmp_path / name, "--dtype", "float64") for name in ("one", "two"))
    assert main(one) == FINISHED
    assert on_ranks(2, main, two) == [FINISHED] * 2
    for number in range(FOLDS):
        expected, found = (history(tmp_path / name / f"fold{number}")[-1]["validation"] for name in ("one", "two"))
        assert found == pytest.approx(expected, rel=1e-9)


def test_folds_are_trained_alike_so_that_they_can_be_pooled(blobs_file, tmp_path, monkeypatch):
    """By what the first one sees: groups make training parts of unlike sizes, and a pixel above 1 is in some alone."""
    monkeypatch.setattr("hpcauxvae.train.config.STEPS", 20)
    data = open_set(blobs_file)
    images, group = (
        np.array(data.images) / np.max(data.images),
        np.repeat(np.arange(8), [60, 10, 10, 10, 30, 10, 20, 10]),
    )
    write(tmp_path / "plain.h5", images, data.values, data.factors, {}, group=group)
    more = {"network": "mlp", "folds": FOLDS, "objective": "auto", "epochs": 0}
    assert main(config(tmp_path / "plain.h5", tmp_path / "p", **more).arguments()) == FINISHED
    runs = [load_run(tmp_path / "p" / f"fold{number}") for number in range(FOLDS)]
    assert len({run.state["n_train"] // 16 for run in runs}) > 1 and len({run.config.epochs for run in runs}) == 1
    tested = runs[0].parts(open_set(tmp_path / "plain.h5"))[2]
    images[tested[0], 0, 0, 0] = 1.5
    write(tmp_path / "set.h5", images, data.values, data.factors, {}, group=group)
    assert main(config(tmp_path / "set.h5", tmp_path / "x", **more).arguments()) == FINISHED
    objectives = [load_run(tmp_path / "x" / f"fold{number}").config.objective for number in range(FOLDS)]
    assert objectives == ["bernoulli"] * FOLDS


def test_what_is_refused(folds, blobs_file, tmp_path):
    for more, message in (
        (["--folds", "1"], "folds = 1; allowed: 2 or more, or 0 for a single run"),
        (["--folds", "161"], "folds = 161 for 160 samples; allowed"),
        (["--folds", "3", "--split", "given"], "folds = 3 with split = given; allowed: split random, group or blocks"),
        (["--folds", "3", "--fold", "3"], "fold = 3; allowed: 0 to 2"),
        (["--fold", "0"], "fold = 0; allowed: with --folds alone"),
    ):
        with pytest.raises(InputError, match=message):
            main([*config(blobs_file, tmp_path / "y").arguments(), *more])
    data = open_set(blobs_file)
    own = tmp_path / "own.h5"
    write(
        own,
        data.images[:],
        data.values,
        data.factors,
        {},
        split=np.repeat(["train", "validation", "test"], [100, 40, 20]),
    )
    with pytest.raises(InputError, match="folds = 3 with the parts of the file"):
        main(words(own, tmp_path / "y"))
    assert not (tmp_path / "y").exists()


def beside(blobs_file: Path, path: Path, name: str) -> tuple[list[str], str]:
    """A set of which the last fold alone cannot be trained; further words of the command, and why not."""
    data = open_set(blobs_file)
    images, values, factors, more = np.array(data.images), data.values.copy(), [*data.factors], {}
    train, validation, test = parts(data, 0, "random", Fold(2, FOLDS))
    words, why = [], f"{path}: fold 2 of 3: factors, "
    if name == "class":
        factors[0], values[:, 0] = Factor("kind", "", 0, 2, "categorical"), np.arange(160) % 2
        values[test[:3], 0] = 2
        words = ["--aux", "kind"]
        why += r"kind: the training part has none of the samples of class 2 \(3 in all\); allowed as an auxiliary"
    elif name == "first class":
        factors[0], values[:, 0] = Factor("kind", "", 0, 2, "categorical"), 1 + np.arange(160) % 2
        values[[*test[:3], *validation[:3]], 0] = 0
        words = ["--aux", "kind"]
        why += r"kind: the training part has none of the samples of class 0 \(6 in all\)"
    elif name == "seldom":
        values[validation[3:], 1] = np.nan
        why += f"g1: measured in 3 of {len(validation)} validation samples; allowed as an auxiliary variable: in 4"
    elif name == "constant":
        values[train, 1] = 0.25
        why += f"g1: measured in {len(train)} of {len(train)} training samples, 0.25 in each; allowed"
    elif name == "small":
        more["group"] = np.repeat(np.arange(8), [10, 10, 10, 90, 10, 10, 10, 10])
        words = ["--batch-size", "56"]
        why = r"batch_size = 56 for 40 training samples of a fold in .*; allowed: at most 40"
    else:
        others = np.union1d(*(parts(data, 0, "random", Fold(number, FOLDS))[0] for number in (0, 1)))
        images /= images.max()
        images[np.setdiff1d(train, others), 0, 0, 0] = -0.01
        words = ["--objective", "bernoulli"]
        why = r"images: the lowest training pixel of fold 2 of 3 is -0.0\d*; allowed with likelihood bernoulli"
    write(path, images, values, factors, {}, **more)
    return words, why


@pytest.mark.parametrize("name", ["class", "first class", "seldom", "constant", "small", "dark"])
def test_a_fold_that_cannot_be_trained_is_found_before_the_first(name: str, blobs_file: Path, tmp_path: Path) -> None:
    more, why = beside(blobs_file, tmp_path / "set.h5", name)
    with pytest.raises(InputError, match=why):
        main(words(tmp_path / "set.h5", tmp_path / "x", *more))
    assert not list(tmp_path.glob("x/*/*.safetensors"))


def test_single_runs_and_folds_have_folders_of_their_own(folds, blobs_file, tmp_path):
    with pytest.raises(InputError, match=r"fold0: holds .* already; choose another folder, or --resume auto"):
        main(words(blobs_file, folds))
    with pytest.raises(InputError, match="x: holds the folds of a cross-validation; choose another folder, or --folds"):
        main(config(blobs_file, folds, network="mlp", resume="auto").arguments())
    with pytest.raises(InputError, match="config folds = 3, now 4; allowed: the same"):
        main([*words(blobs_file, folds, "--resume", "auto", "--folds", "4")])
    with pytest.raises(InputError, match=r"out = .*fold0 for fold 2; allowed: .*fold2, or another name"):
        main(config(blobs_file, tmp_path / "fold0", folds=FOLDS, fold=2).arguments())
    run = folds / "fold0"
    with pytest.raises(InputError, match=r"fold0: holds a single run; choose another folder for --folds"):
        main(words(blobs_file, run, "--resume", "auto"))

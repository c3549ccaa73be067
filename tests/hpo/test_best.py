"""The choice of a search, trained and scored: by real trainings once, else with workers that only say how they end."""

import json
import shlex
import time
from pathlib import Path

import pytest

from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.types import InputError
from hpo import best, pools
from hpo.command import BestConfig
from hpo.logbook import SETTINGS, Logbook, Row
from hpo.problem import Objectives
from hpo.search import main
from hpo.settings import SearchConfig


def row(trial: int, beta: float = 0.5, mse: float = 1e-3, **fields) -> Row:
    given = {"state": "finished", "reason": "", "epochs": 1, "started": 0.0, "ended": 1.0, "worker": "here/0"}
    objectives = Objectives(mse, 0.1)
    return Row(trial=trial, point={"beta": beta}, objectives=objectives, rungs=[], **given | fields)


@pytest.fixture
def search(data, tmp_path: Path) -> Path:
    """A search with one trial, in a folder with a space in its name."""
    out = tmp_path / "a search"
    out.mkdir()
    fix = ("network=mlp", "batch_size=32", "latents=4")
    config = SearchConfig(data=data, out=out, aux="radius", vary=("beta=0.1:10:log",), fix=fix, device="cpu")
    (out / SETTINGS).write_text(json.dumps({"settings": config.to_json(), "data": "0"}))
    Logbook(out).ask(0, {"beta": 0.5})
    Logbook(out).end(row(0))
    return out


@pytest.fixture
def workers(monkeypatch):
    """In place of trainings: seed -> what it does with `stopping`, and the row it ends with; which seeds were run."""
    ends: dict = {}
    ran: list[int] = []

    def run(setup, trial, point, slot, stopping):
        ran.append(trial)
        return ends.get(trial, lambda stopping: row(trial))(stopping)

    monkeypatch.setattr(pools, "run_trial", run)
    yield ends, ran
    pools.STOP.clear()


def retrain(search: Path, *more: object) -> int:
    given = ["best", search, "--retrain", "--seeds", 2, "--workers", 2, "--epochs", 1, *more]
    return main([str(word) for word in given])


def other_set(data: Path, path: Path, step: int = 1, **changes) -> Path:
    """60 of the images, every pixel or fewer of them; perhaps with other factors."""
    whole = open_set(data)
    factors = [whole.factors[0]._replace(**changes)]
    images = whole.images[:60, :, ::step, ::step]
    write(path, images, whole.values[:60], [*factors, *whole.factors[1:]], {"simulator": "blobs"})
    return path


@pytest.mark.processes
@pytest.mark.slow
def test_two_seeds_are_trained_and_scored_beside_their_ceilings(data, search, capsys):
    fresh = other_set(data, search.parent / "fresh.h5")
    assert retrain(search, "--fresh", fresh) == 0
    runs = [search / "best" / "trials" / f"{seed:04}" for seed in (1, 2)]
    assert [json.loads((run / "config.json").read_text())["seed"] for run in runs] == [1, 2]
    metrics = [json.loads((run / "metrics.json").read_text())["sets"] for run in runs]
    scores = json.loads((search / "best" / "scores.json").read_text())
    assert scores["chosen"] == {"trial": 0, "point": {"beta": 0.5}, "epochs": 1}
    assert set(scores["sets"]) == {"test", "fresh"}
    for name, table in scores["sets"].items():
        codes = [each[name]["codes"]["lds"] for each in metrics]
        assert table["lds"]["values"] == [each["value"] for each in codes]
        assert table["lds"]["values"][0] != table["lds"]["values"][1], "the seeds are not the same training"
        assert table["lds"]["ceiling"] == codes[0]["attainable"]
        assert 0.5 < table["lds"]["ceiling"] <= 1
        assert table["mse"]["values"] == [each[name]["images"]["mse"]["value"] for each in metrics]
    assert "scores.json" in capsys.readouterr().out

    with pytest.raises(InputError, match="test split was used for trial 0 with 1 epochs, now trial 0 with 2 epochs"):
        retrain(search, "--epochs", 2)
    Logbook(search).ask(1, {"beta": 2.0})
    Logbook(search).end(row(1, 2.0, mse=1e-6))
    with pytest.raises(InputError, match="test split was used for trial 0 with 1 epochs, now trial 1 with 1 epochs"):
        retrain(search)


def test_the_test_split_is_taken_when_it_is_scored_and_not_before(search, workers, monkeypatch):
    ends, ran = workers
    ends[2] = lambda _: row(2, state="failed", reason="of no avail")
    claim = search / "best" / "chosen.json"
    with pytest.raises(InputError, match="seed 2 of no avail; start again"):
        retrain(search)
    assert not claim.exists()
    with pytest.raises(InputError, match=r"best: holds trainings of trial 0 with 1 epochs, none scored.*or remove it"):
        retrain(search, "--epochs", 2)
    assert sorted(ran) == [1, 2], "nothing was trained in the place of the others"

    def score(run, _):
        assert json.loads(claim.read_text())["epochs"] == 1
        raise InputError("a full disk")

    monkeypatch.setattr(best, "scored", score)
    ends.clear()
    with pytest.raises(InputError, match="a full disk"):
        retrain(search)
    assert sorted(ran) == [1, 1, 2, 2], "the same command goes on"
    with pytest.raises(InputError, match="the test split was used for trial 0 with 1 epochs"):
        retrain(search, "--epochs", 2)


def test_sets_are_opened_before_anything_is_trained(data, search, workers):
    folder = search.parent
    small, named = other_set(data, folder / "small.h5", step=2), other_set(data, folder / "named.h5", name="width")
    other = other_set(data, folder / "other.h5")
    for given, message in (
        (["--fresh", folder / "none.h5"], "none.h5"),
        (["--noiseless", folder / "none.h5"], "none.h5"),
        (["--fresh", small], r"small.h5: images of \(1, 4, 4\); allowed: those of .*blobs.h5, \(1, 8, 8\)"),
        (["--noiseless", small], r"small.h5: images of \(1, 4, 4\)"),
        (
            ["--noiseless", other],
            "other.h5: the factors of its 60 samples are those of no set that is scored; allowed: ",
        ),
        (["--fresh", named], "named.h5: has other factors than"),
        (["--fresh", data], "blobs.h5: is the data set of the search"),
    ):
        with pytest.raises(InputError, match=message):
            retrain(search, *given)
    assert workers[1] == []
    assert not (search / "best").exists()


def test_a_seed_that_fails_is_heard_of_while_an_earlier_one_trains(search, workers):
    ends, ran = workers

    def long(stopping):
        began = time.monotonic()
        while not stopping() and time.monotonic() - began < 10:
            time.sleep(0.01)
        return row(1, state="interrupted")

    ends[1], ends[2] = long, lambda _: row(2, state="failed", reason="of no avail")
    with pytest.raises(InputError, match="seed 2 of no avail"):
        retrain(search)
    assert sorted(ran) == [1, 2]


@pytest.mark.parametrize("workers", [0, -1])
def test_a_retraining_needs_a_worker(workers):
    with pytest.raises(InputError, match=f"workers = {workers}; allowed: at least 1"):
        BestConfig(search=Path("x"), workers=workers)


def test_the_command_shown_is_that_of_the_retraining(search, data, capsys):
    moved = search.parent / "my blobs.h5"
    moved.symlink_to(data)
    saved = json.loads((search / SETTINGS).read_text())
    (search / SETTINGS).write_text(json.dumps(saved | {"settings": saved["settings"] | {"data": str(moved)}}))
    for given, epochs in (([], "500"), (["--epochs", "7"], "7")):  # 6,000 steps would be 1,500 epochs of 4
        assert main(["best", str(search), *given]) == 0
        words = shlex.split(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("python")))
        assert words[:4] == ["python", "-m", "hpcauxvae.train", str(moved)]
        assert words[words.index("--epochs") + 1] == epochs
